# SPDX-License-Identifier: Apache-2.0
"""Manages datasets in a workspace: adds them, finds near-duplicates, exports them without erased samples."""
