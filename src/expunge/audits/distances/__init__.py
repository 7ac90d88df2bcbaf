# SPDX-License-Identifier: Apache-2.0
"""Distances between a candidate and models that never saw the data."""
