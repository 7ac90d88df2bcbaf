# SPDX-License-Identifier: Apache-2.0
"""Names of datasets and models, and references to their versions. Does not import the database."""

from __future__ import annotations

import re

from expunge.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def parse_ref(ref: str) -> tuple[str, int | None]:
    """Split ``NAME`` or ``NAME@V`` into name and version number (None: the newest).

    Raises:
        InputError: If the reference is malformed.
    """
    name, at, number = ref.partition("@")
    if not NAME.fullmatch(name) or (at and not re.fullmatch(r"[1-9][0-9]{0,8}", number)):
        raise InputError(
            f"{ref!r} is not a name.",
            "Names are letters, digits, '.', '_' and '-'; a version is given as NAME@3.",
            "Give NAME or NAME@V.",
        )
    return name, int(number) if at else None
