# SPDX-License-Identifier: Apache-2.0
"""SVG for plots: scales, elements and axes, without a style sheet, so that a plot looks the same anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

INK, SOFT, LINE = "#1c2330", "#55606f", "#d5dce5"
FONT = "system-ui, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Scale:
    """Map values from ``low`` to ``high`` to pixels from ``start`` to ``end``; values outside are clipped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        v, low, high = (
            (math.log10(max(x, 1e-300)) for x in (value, self.low, self.high))
            if self.log
            else (value, self.low, self.high)
        )
        share = (v - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round tick values in the range: powers of ten, or three to seven steps of 1, 2 or 5."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**k for k in range(first, last + 1)]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(span))
        step = next(power * k for k in (0.2, 0.5, 1, 2) if span / (power * k) <= 6)
        return [
            round(k * step, 10) + 0.0 for k in range(math.ceil(self.low / step), int(self.high // step) + 1)
        ]


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return an element; ``_`` in an attribute's name stands for ``-``. The content is markup."""
    pairs = "".join(f' {k.rstrip("_").replace("_", "-")}="{escape(str(v))}"' for k, v in attributes.items())
    return f"<{name}{pairs}>{content}</{name}>" if content else f"<{name}{pairs}/>"


def text(x: float, y: float, words: str, *, anchor: str = "start", fill: str = SOFT, size: int = 12) -> str:
    """Return a line of text."""
    return tag("text", escape(words), x=x, y=y, text_anchor=anchor, fill=fill, font_size=size)


def line(
    x1: float, y1: float, x2: float, y2: float, stroke: str = LINE, width: float = 1, dash: str = ""
) -> str:
    """Return a straight line."""
    more = {"stroke_dasharray": dash} if dash else {}
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width, **more)


def dot(x: float, y: float, fill: str, title: str, radius: float = 3.5) -> str:
    """Return a dot with a tooltip."""
    return tag(
        "circle", tag("title", escape(title)), cx=round(x, 1), cy=round(y, 1), r=radius, fill=fill,
        fill_opacity=0.75,
    )  # fmt: skip


def diamond(x: float, y: float, fill: str, title: str) -> str:
    """Return a diamond with a tooltip."""
    corners = [(x, y - 6), (x + 5, y), (x, y + 6), (x - 5, y)]
    return area(corners, fill, 0.9, title)


def area(points: Iterable[tuple[float, float]], fill: str, opacity: float, title: str = "") -> str:
    """Return a filled polygon."""
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("polygon", tag("title", escape(title)) if title else "", points=where, fill=fill,
               fill_opacity=opacity)  # fmt: skip


def curve(points: Iterable[tuple[float, float]], stroke: str, width: float = 2, dash: str = "") -> str:
    """Return a polyline."""
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    more = {"stroke_dasharray": dash} if dash else {}
    return tag("polyline", points=where, fill="none", stroke=stroke, stroke_width=width, **more)


def axis_x(scale: Scale, y: float, top: float, label: str, *, names: Sequence[str] = ()) -> str:
    """Return a horizontal axis at ``y`` with grid lines up to ``top``; ``names`` replaces the tick labels."""
    ticks = scale.ticks()
    labels = names or [number(t) for t in ticks]
    marks = "".join(
        line(scale(t), y, scale(t), top) + text(scale(t), y + 16, s, anchor="middle")
        for t, s in zip(ticks, labels, strict=True)
    )
    middle = (scale.start + scale.end) / 2
    return (
        marks
        + line(scale.start, y, scale.end, y, SOFT)
        + text(middle, y + 34, label, anchor="middle", fill=INK)
    )


def axis_y(scale: Scale, x: float, right: float) -> str:
    """Return a vertical axis at ``x`` with grid lines up to ``right``."""
    return "".join(
        line(x, scale(t), right, scale(t)) + text(x - 6, scale(t) + 4, number(t), anchor="end")
        for t in scale.ticks()
    )


def number(value: float | None) -> str:
    """Return a number for display; infinite and missing values as a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) < 1e-12:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3g}"


def picture(width: int, height: int, content: str, label: str) -> str:
    """Return the complete drawing; ``label`` is its text alternative."""
    return tag(
        "svg", tag("title", escape(label)) + content, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}", role="img", aria_label=label, font_family=FONT,
    )  # fmt: skip
