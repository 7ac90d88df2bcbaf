# SPDX-License-Identifier: Apache-2.0
"""Reproducible training of one stage: plan, recipe, schedule, training loop and checkpoints."""
