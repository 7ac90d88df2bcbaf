# SPDX-License-Identifier: Apache-2.0
"""The desk of a data-protection officer: pages and a REST API over what the command line does."""
