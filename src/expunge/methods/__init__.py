# SPDX-License-Identifier: Apache-2.0
"""Unlearning methods, one paper per file; all of them are independent of the task."""
