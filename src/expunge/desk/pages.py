# SPDX-License-Identifier: Apache-2.0
"""A page of a long list, and the cursor at which the next one begins."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from expunge.errors import InputError
from expunge.user_files import parse_json

MOST = 200
MOST_ROWS = 2**63 - 1  # no number of a row is larger, in any database


@dataclass(frozen=True)
class Page:
    """Some of a list.

    Attributes:
        items: The entries.
        next: What to give as ``cursor`` for those that follow; None: these were the last.
        total: How many there are in all; None: not counted.
    """

    items: list[dict[str, Any]]
    next: str | None
    total: int | None = None


def encode(position: list[Any]) -> str:
    """Return a position in a list as a cursor."""
    text = json.dumps(position, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> list[Any]:
    """Undo ``encode``.

    Args:
        cursor: What a caller gave.
        kinds: The types of the position's parts.

    Raises:
        InputError: If it is no cursor of such a list.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = parse_json(base64.b64decode(padded.encode("ascii"), b"-_", validate=True))
        if (
            isinstance(position, list)
            and len(position) == len(kinds)
            and all(type(part) is kind for part, kind in zip(position, kinds, strict=True))
            and all(_is_kept(part) for part in position)
        ):
            return position
    except (ValueError, binascii.Error):
        pass
    raise InputError(
        "That is no cursor of this list.", "", "Give `next` of an earlier answer, or leave it out."
    )


def _is_kept(part: Any) -> bool:
    """Whether a database can be asked for it."""
    return part.isprintable() if isinstance(part, str) else abs(part) <= MOST_ROWS
