# SPDX-License-Identifier: Apache-2.0
"""Measure how well a model serves each group, and find the training data that harms it."""
