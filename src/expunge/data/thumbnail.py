# SPDX-License-Identifier: Apache-2.0
"""Thumbnails of images, for contact sheets, reports and pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from expunge.storage.user_files import open_file

Box = tuple[float, float, float, float]
MAX_PIXELS = 100_000_000  # larger images are not decoded, to bound memory


def upright_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image in pixels, after applying its EXIF orientation.

    Raises:
        Exception: Any exception of Pillow, if the image cannot be read.
    """
    with open_file(path) as file, Image.open(file) as picture:
        return (ImageOps.exif_transpose(picture) or picture).size


def thumbnail(path: Path, side: int, boxes: Sequence[tuple[Box, str]] = ()) -> bytes | None:
    """Return a thumbnail of an image (JPEG, upright, without metadata), or None if it cannot be read.

    Args:
        path: The image.
        side: Largest width and height of the thumbnail, in pixels.
        boxes: Boxes to draw, each with a colour; xyxy, as fractions of the upright image's width and height.
    """
    try:
        with open_file(path) as file, Image.open(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
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
    except Exception:  # Pillow's decoders raise many types
        return None
    return buffer.getvalue()
