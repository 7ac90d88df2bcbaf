# SPDX-License-Identifier: Apache-2.0
"""A queue without trainings."""

from requests_fixtures import paper, template, workspace

__all__ = ["paper", "template", "workspace"]
