# SPDX-License-Identifier: Apache-2.0
"""Self-contained HTML pages that show images side by side."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from expunge.data.thumbnail import Box, thumbnail
from expunge.storage.files import write_atomically

SIDE = 220
MAX_PAIRS = 300
STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;color:#222;background:#fafafa}"
    "table{border-collapse:collapse}td{padding:.6rem;vertical-align:top;border-top:1px solid #ddd}"
    "img{display:block;max-width:220px;max-height:220px}small{color:#555;overflow-wrap:anywhere}"
)


def write_sheet(path: Path, label: str, root: Path, pairs: Sequence[Mapping[str, Any]]) -> None:
    """Write the page of near-duplicates. Only its owner can read the file.

    Args:
        path: File to write.
        label: Label of the dataset version.
        root: The dataset's folder.
        pairs: Pairs as listed by ``data duplicates --json``; the first 300 are shown.

    Raises:
        StorageError: If the file cannot be written.
    """
    shown = pairs[:MAX_PAIRS]
    rows = "".join(_row(root, number, pair) for number, pair in enumerate(shown, 1))
    more = f" Of {len(pairs)} pairs the first {MAX_PAIRS} are shown." if len(pairs) > MAX_PAIRS else ""
    write_page(
        path,
        f"Near-duplicates in {label}",
        f"Pictures that look alike and do not concern the same people.{more} Decide on each in a CSV file "
        "(<code>a,b,decision</code>: same or different).",
        rows,
    )


def write_page(path: Path, title: str, introduction: str, rows: str) -> None:
    """Write a page with a table. Only its owner can read the file.

    Args:
        path: File to write.
        title: Title, plain text.
        introduction: First paragraph, HTML.
        rows: Rows of the table, HTML.

    Raises:
        StorageError: If the file cannot be written.
    """
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>"
        f"<p>{introduction} This page holds personal data: delete it afterwards.</p>"
        f"<table>{rows}</table></html>\n"
    )
    write_atomically(path, text.encode("utf-8", "replace"), "The page")
    path.chmod(0o600)


def image_element(path: Path, boxes: Sequence[tuple[Box, str]] = ()) -> str:
    """Return an HTML image element with a thumbnail, or a note that the image cannot be read.

    Args:
        path: The image.
        boxes: Boxes to draw, each with a colour; xyxy, as fractions of the upright image's width and height.
    """
    jpeg = thumbnail(path, SIDE, boxes)
    if jpeg is None:
        return "<em>cannot be read</em>"
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def _row(root: Path, number: int, pair: Mapping[str, Any]) -> str:
    facts = [f"distance {pair['distance']}", f"similarity {pair['similarity']:.3f}"]
    facts += [word for word in ("flipped", "identical") if pair[word]]
    facts += [f"decided: {pair['decision']}"] if pair.get("decision") else []
    sides = "".join(_cell(root, pair[side], pair[f"subjects_{side}"]) for side in ("a", "b"))
    return f"<tr><td>{number}</td>{sides}<td>{'<br>'.join(escape(fact) for fact in facts)}</td></tr>"


def _cell(root: Path, path: str, subjects: Sequence[str]) -> str:
    names = ", ".join(subjects) or "nobody"
    return f"<td>{image_element(root / path)}<small>{escape(path)}<br>{escape(names)}</small></td>"
