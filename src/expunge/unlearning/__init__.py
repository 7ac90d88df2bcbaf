# SPDX-License-Identifier: Apache-2.0
"""Runs approximate methods safely: budget, utility guard with rollback, verdict, `auto`."""
