# SPDX-License-Identifier: Apache-2.0
"""Datasets in: readers, digests, subjects, sanitized exports."""
