# SPDX-License-Identifier: Apache-2.0
"""How templates become pages: everything is escaped, and a name that a template lacks is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Return an environment for the folder ``templates`` of a package, with filters besides Jinja's own."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= filters
    return made
