# SPDX-License-Identifier: Apache-2.0
"""Metrics by group, for classifiers and detectors."""
