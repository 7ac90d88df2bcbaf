# SPDX-License-Identifier: Apache-2.0
"""The demo: train a face detector on real faces, forget a person, verify it, and write a report."""
