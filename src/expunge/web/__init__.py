# SPDX-License-Identifier: Apache-2.0
"""The web desk of a data-protection officer: pages and a REST API for the operations of the command line."""
