# SPDX-License-Identifier: Apache-2.0
"""A page that shows pairs of pictures side by side; it holds them, and needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from expunge.exact.checkpoint import write_atomically

SIDE = 220
MOST = 300
STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;color:#222;background:#fafafa}"
    "table{border-collapse:collapse}td{padding:.6rem;vertical-align:top;border-top:1px solid #ddd}"
    "img{display:block;max-width:220px;max-height:220px}small{color:#555;overflow-wrap:anywhere}"
)


def write_sheet(path: Path, label: str, root: Path, pairs: Sequence[Mapping[str, Any]]) -> None:
    """Write the page, readable for its owner alone.

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
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Near-duplicates in {escape(label)}'
        "</title>"
        f"<style>{STYLE}</style><h1>Near-duplicates in {escape(label)}</h1>"
        f"<p>Pictures that look alike and do not concern the same people.{more} Decide on each in a CSV file "
        "(<code>a,b,decision</code>: same or different). This page holds personal data: delete it "
        "afterwards.</p>"
        f"<table>{rows}</table></html>\n"
    )
    write_atomically(path, text.encode("utf-8", "replace"), "The page")
    path.chmod(0o600)


def _row(root: Path, number: int, pair: Mapping[str, Any]) -> str:
    facts = [f"distance {pair['distance']}", f"similarity {pair['similarity']:.3f}"]
    facts += [word for word in ("flipped", "identical") if pair[word]]
    facts += [f"decided: {pair['decision']}"] if pair.get("decision") else []
    sides = "".join(_cell(root, pair[side], pair[f"subjects_{side}"]) for side in ("a", "b"))
    return f"<tr><td>{number}</td>{sides}<td>{'<br>'.join(escape(fact) for fact in facts)}</td></tr>"


def _cell(root: Path, path: str, subjects: Sequence[str]) -> str:
    who = ", ".join(subjects) or "nobody"
    picture = thumbnail(root / path)
    code = base64.b64encode(picture or b"").decode()
    shown = f'<img alt="" src="data:image/jpeg;base64,{code}">' if picture else "<em>cannot be read</em>"
    return f"<td>{shown}<small>{escape(path)}<br>{escape(who)}</small></td>"


def thumbnail(path: Path, side: int = SIDE) -> bytes | None:
    """Return a picture as a small JPEG (``side`` pixels), upright, without metadata; None: unreadable."""
    try:
        with Image.open(path) as picture:
            upright = (ImageOps.exif_transpose(picture) or picture).convert("RGB")
            upright.thumbnail((side, side))
            buffer = io.BytesIO()
            upright.save(buffer, "JPEG", quality=85)
    except Exception:  # whatever Pillow's decoders raise: the page says so
        return None
    return buffer.getvalue()
