# SPDX-License-Identifier: Apache-2.0
"""Small copies of pictures, for sheets, reports and pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from expunge.user_files import open_file

Box = tuple[float, float, float, float]
MOST_PIXELS = 100_000_000  # a picture that is larger is not opened: it would take the memory of the machine


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture in pixels, as it is shown: turned by what its metadata says.

    Raises:
        Exception: Whatever Pillow raises, if it cannot be read.
    """
    with open_file(path) as file, Image.open(file) as picture:
        return (ImageOps.exif_transpose(picture) or picture).size


def thumbnail(path: Path, side: int, boxes: Sequence[tuple[Box, str]] = ()) -> bytes | None:
    """Return a picture as a JPEG of at most ``side`` pixels, upright, without metadata; None: unreadable.

    Args:
        path: The picture.
        side: Of the square into which it fits, in pixels.
        boxes: Frames to draw, xyxy in shares of the upright picture's sides, each with a colour.
    """
    try:
        with open_file(path) as file, Image.open(file) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            picture.draft("RGB", (side, side))
            small = (ImageOps.exif_transpose(picture) or picture).convert("RGB")
            small.thumbnail((side, side))
            pen = ImageDraw.Draw(small)
            width, height = small.width - 1, small.height - 1
            for (left, top, right, bottom), colour in boxes:
                frame = (left * width, top * height, right * width, bottom * height)
                pen.rectangle(frame, outline=colour, width=2)
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=85)
    except Exception:  # whatever Pillow's decoders raise
        return None
    return buffer.getvalue()
