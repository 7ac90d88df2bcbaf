# SPDX-License-Identifier: Apache-2.0
"""Training organised so that forgetting is exact: placement, schedule, checkpoints, merge, replay."""
