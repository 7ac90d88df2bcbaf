# SPDX-License-Identifier: Apache-2.0
"""Pictures for the report as ``data:`` URLs: scenes with boxes drawn into them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from expunge.demo.report_data import Detection
from expunge.demo.scenes import Box

SCALE = 2
FOUND = (255, 196, 0)
PERSON = (255, 64, 160)
_INK = (20, 20, 20)


def scene(image: Path, found: Sequence[Detection] = (), outlined: Sequence[Box] = ()) -> str:
    """Return an enlarged scene as a ``data:`` URL, with detections (box, confidence) and outlined faces."""
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    size = (picture.width * SCALE, picture.height * SCALE)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    for box in outlined:
        left, top, right, bottom = (v * SCALE for v in box)
        pen.ellipse((left - 4, top - 4, right + 4, bottom + 4), outline=PERSON, width=4)
    font = ImageFont.load_default(size=15)
    for detection in found:
        left, top, right, bottom = (v * SCALE for v in detection.box)
        pen.rectangle((left, top, right, bottom), outline=FOUND, width=3)
        text = f"{detection.confidence:.2f}"
        wide = pen.textlength(text, font=font) + 8
        x = min(max(left, 0.0), size[0] - wide)
        y = top - 20 if top >= 20 else min(bottom, size[1] - 20.0)
        pen.rectangle((x, y, x + wide, y + 20), fill=FOUND)
        pen.text((x + 4, y + 1), text, fill=_INK, font=font)
    return _data_url(picture)


def portrait(image: Path, face: Box) -> str:
    """Return an enlarged scene as a ``data:`` URL, with one face outlined."""
    return scene(image, outlined=(face,))


def _data_url(picture: Image.Image) -> str:
    """Return the picture as a ``data:`` URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=86, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
