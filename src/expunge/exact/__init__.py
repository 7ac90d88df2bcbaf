# SPDX-License-Identifier: Apache-2.0
"""Exact unlearning: placement of subjects, checkpoint graph, training processes, merge and replay."""
