# SPDX-License-Identifier: Apache-2.0
"""A canvas for lines, dots and text that is saved as SVG or as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol

from expunge.errors import InputError
from expunge.evidence import svg
from expunge.storage.files import write_atomically

SCALE = 2  # PNG pixels per unit
KINDS = (".svg", ".png")


class Canvas(Protocol):
    """Drawing operations; coordinates are SVG pixels from the upper left."""

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        """Draw a straight line."""
        ...

    def dot(self, x: float, y: float, colour: str, title: str, radius: float = 5) -> None:
        """Draw a dot."""
        ...

    def text(
        self, x: float, y: float, words: str, colour: str = svg.SOFT, size: int = 12, anchor: str = "start"
    ) -> None:
        """Write a line of text with its baseline at y; ``anchor``: start, middle or end lies at x."""
        ...

    def finish(self, label: str) -> bytes:
        """Return the file's content."""
        ...


def check_kind(path: Path) -> None:
    """Raise an error unless a plot can be saved at a path.

    Raises:
        InputError: If the suffix is neither .svg nor .png, or the folder is missing.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError(
            "The plot cannot be saved in that form.", f"Known: {', '.join(KINDS)}.", "Name a file.svg."
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            "The plot cannot be written there.", "There is no such folder.", "Make it, or name another."
        )


def canvas_for(path: Path, width: int, height: int) -> Canvas:
    """Return an empty canvas in the format of the file's suffix."""
    check_kind(path)
    return _Svg(width, height) if path.suffix.lower() == ".svg" else _Png(width, height)


def save(canvas: Canvas, path: Path, label: str) -> None:
    """Write a drawing to a file; ``label`` is its text alternative."""
    write_atomically(path, canvas.finish(label), "The plot")


class _Svg:
    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._parts = [svg.tag("rect", x=0, y=0, width=width, height=height, fill="#ffffff")]

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        self._parts.append(svg.line(round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1), colour, width))

    def dot(self, x: float, y: float, colour: str, title: str, radius: float = 5) -> None:
        self._parts.append(svg.dot(x, y, colour, title, radius))

    def text(
        self, x: float, y: float, words: str, colour: str = svg.SOFT, size: int = 12, anchor: str = "start"
    ) -> None:
        self._parts.append(svg.text(round(x, 1), round(y, 1), words, anchor=anchor, fill=colour, size=size))

    def finish(self, label: str) -> bytes:
        return (svg.picture(*self._size, "".join(self._parts), label) + "\n").encode()


class _Png:
    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (width * SCALE, height * SCALE), "white")
        self._draw = ImageDraw.Draw(self._image)

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        points = [(x1 * SCALE, y1 * SCALE), (x2 * SCALE, y2 * SCALE)]
        self._draw.line(points, fill=colour, width=max(1, round(width * SCALE)))

    def dot(self, x: float, y: float, colour: str, title: str, radius: float = 5) -> None:
        r = radius * SCALE
        self._draw.ellipse((x * SCALE - r, y * SCALE - r, x * SCALE + r, y * SCALE + r), fill=colour)

    def text(
        self, x: float, y: float, words: str, colour: str = svg.SOFT, size: int = 12, anchor: str = "start"
    ) -> None:
        from PIL import ImageFont

        where = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), words, fill=colour, font=font, anchor=where)

    def finish(self, label: str) -> bytes:
        from PIL.PngImagePlugin import PngInfo

        about, out = PngInfo(), io.BytesIO()
        about.add_itxt("Description", label)
        self._image.save(out, format="PNG", pnginfo=about)
        return out.getvalue()
