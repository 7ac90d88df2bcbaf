# SPDX-License-Identifier: Apache-2.0
"""A page that shows pictures side by side; it holds them, and needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from expunge.data.thumbnail import Box, thumbnail
from expunge.exact.checkpoint import write_atomically

SIDE = 220
MOST = 300
STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;color:#222;background:#fafafa}"
    "table{border-collapse:collapse}td{padding:.6rem;vertical-align:top;border-top:1px solid #ddd}"
    "img{display:block;max-width:220px;max-height:220px}small{color:#555;overflow-wrap:anywhere}"
)


def write_sheet(path: Path, label: str, root: Path, pairs: Sequence[Mapping[str, Any]]) -> None:
    """Write the page of near-duplicates, readable for its owner alone.

    Args:
        path: Where to.
        label: The dataset version.
        root: The dataset's folder.
        pairs: As ``data duplicates --json`` lists them; the first 300 are shown.

    Raises:
        StorageError: If it cannot be written.
    """
    shown = pairs[:MOST]
    rows = "".join(_row(root, number, pair) for number, pair in enumerate(shown, 1))
    more = f" Of {len(pairs)} pairs the first {MOST} are shown." if len(pairs) > MOST else ""
    write_page(
        path,
        f"Near-duplicates in {label}",
        f"Pictures that look alike and do not concern the same people.{more} Decide on each in a CSV file "
        "(<code>a,b,decision</code>: same or different).",
        rows,
    )


def write_page(path: Path, title: str, introduction: str, rows: str) -> None:
    """Write a page with a table, readable for its owner alone.

    Args:
        path: Where to.
        title: Plain text.
        introduction: HTML.
        rows: HTML: the table's rows.

    Raises:
        StorageError: If it cannot be written.
    """
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>"
        f"<p>{introduction} This page holds personal data: delete it afterwards.</p>"
        f"<table>{rows}</table></html>\n"
    )
    write_atomically(path, text.encode("utf-8", "replace"), "The page")
    path.chmod(0o600)


def picture_of(path: Path, boxes: Sequence[tuple[Box, str]] = ()) -> str:
    """Return an image element with a small picture, or the words that it cannot be read.

    Args:
        path: The picture.
        boxes: Frames to draw, xyxy in shares of the upright picture's sides, each with a colour.
    """
    picture = thumbnail(path, SIDE, boxes)
    if picture is None:
        return "<em>cannot be read</em>"
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(picture).decode()}">'


def _row(root: Path, number: int, pair: Mapping[str, Any]) -> str:
    facts = [f"distance {pair['distance']}", f"similarity {pair['similarity']:.3f}"]
    facts += [word for word in ("flipped", "identical") if pair[word]]
    facts += [f"decided: {pair['decision']}"] if pair.get("decision") else []
    sides = "".join(_cell(root, pair[side], pair[f"subjects_{side}"]) for side in ("a", "b"))
    return f"<tr><td>{number}</td>{sides}<td>{'<br>'.join(escape(fact) for fact in facts)}</td></tr>"


def _cell(root: Path, path: str, subjects: Sequence[str]) -> str:
    who = ", ".join(subjects) or "nobody"
    return f"<td>{picture_of(root / path)}<small>{escape(path)}<br>{escape(who)}</small></td>"
