# SPDX-License-Identifier: Apache-2.0
"""Attribute errors to training samples, by gradients and by label quality."""
