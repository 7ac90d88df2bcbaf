# SPDX-License-Identifier: Apache-2.0
"""Finds and deletes what forgotten data has left: superseded weights, checkpoints, exports, caches."""
