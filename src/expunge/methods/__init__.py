# SPDX-License-Identifier: Apache-2.0
"""Ways to unlearn, a paper per file; nothing in here knows a detector from a classifier."""
