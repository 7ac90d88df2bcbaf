# SPDX-License-Identifier: Apache-2.0
"""Audit candidate models, independently of the method that made them."""
