# SPDX-License-Identifier: Apache-2.0
"""Pages of long lists, and the cursors between them."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from expunge.errors import InputError
from expunge.storage.user_files import parse_json

MOST = 200
MOST_ROWS = 2**63 - 1  # largest row id in any supported database


@dataclass(frozen=True)
class Page:
    """A page of a list.

    Attributes:
        items: The entries.
        next: The ``cursor`` of the next page; None on the last page.
        total: Number of entries in the list; None if not counted.
    """

    items: list[dict[str, Any]]
    next: str | None
    total: int | None = None


def encode(position: list[Any]) -> str:
    """Return a position in a list as a cursor."""
    text = json.dumps(position, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> list[Any]:
    """Return the position that ``encode`` turned into a cursor.

    Args:
        cursor: The cursor, as given by the caller.
        kinds: Expected types of the position's parts.

    Raises:
        InputError: If the cursor is invalid.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = parse_json(base64.b64decode(padded.encode("ascii"), b"-_", validate=True))
        if (
            isinstance(position, list)
            and len(position) == len(kinds)
            and all(type(part) is kind for part, kind in zip(position, kinds, strict=True))
            and all(_is_storable(part) for part in position)
        ):
            return position
    except (ValueError, binascii.Error):
        pass
    raise InputError(
        "The cursor is not valid for this list.", "", "Give `next` of an earlier response, or omit it."
    )


def _is_storable(part: Any) -> bool:
    """Return whether the part is safe as a parameter of a database query."""
    return part.isprintable() if isinstance(part, str) else abs(part) <= MOST_ROWS
