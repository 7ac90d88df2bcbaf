# SPDX-License-Identifier: Apache-2.0
"""Jinja environments for HTML pages: all values are escaped, and an undefined name is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Return a Jinja environment for the folder ``templates`` of a package.

    Args:
        package: Name of the package.
        filters: Filters to add to those of Jinja.
    """
    jinja = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= filters
    return jinja
