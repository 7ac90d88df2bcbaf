# SPDX-License-Identifier: Apache-2.0
"""Accounts, sessions, tokens, roles, and the access log."""
