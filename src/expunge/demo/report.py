# SPDX-License-Identifier: Apache-2.0
"""The demo's report: one self-contained HTML file for readers who are not engineers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expunge.demo import drawing
from expunge.demo.faces import CREDIT
from expunge.demo.report_data import Cell, ReportData
from expunge.templating import environment

# Geometry of the training map, in SVG units.
_COLUMN, _ROW, _BOX, _TALL = 212, 74, 182, 56


@dataclass(frozen=True, slots=True)
class Block:
    """A cell of the map with its position and size, in SVG units."""

    cell: Cell
    x: int
    y: int
    width: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Map:
    """The layout of the map of shards and stages: blocks, arrows (x1, y1, x2, y2) and size, in SVG units."""

    blocks: tuple[Block, ...]
    arrows: tuple[tuple[int, int, int, int], ...]
    merge: Block | None
    width: int
    height: int


def write(data: ReportData, path: Path) -> None:
    """Render the report into ``path``."""
    path.write_text(render(data), encoding="utf-8")


def render(data: ReportData) -> str:
    """Return the report as HTML."""
    pages = environment("expunge.demo", {"seconds": seconds, "percent": percent, "short": short})
    template = pages.get_template("report.html.j2")
    return template.render(data=data, map=layout(data.cells), draw=drawing, credit=CREDIT)


def layout(cells: tuple[Cell, ...]) -> Map:
    """Return the layout of the cells, from left to right: public start, shards (rows), merge, polish."""
    shards = sorted({cell.shard for cell in cells if cell.phase == "shard"})
    stages = max((cell.stage for cell in cells if cell.phase == "shard"), default=0)
    public = next((cell for cell in cells if cell.phase == "public"), None)
    polish = next((cell for cell in cells if cell.phase == "polish"), None)
    height = max(len(shards), 1) * _ROW
    middle = height // 2
    first = 1 if public else 0
    blocks, arrows = [], []
    if public:
        blocks.append(Block(public, 0, middle - _TALL // 2, _BOX, _TALL, "Public start"))
    for row, shard in enumerate(shards):
        y = row * _ROW + (_ROW - _TALL) // 2
        chain = sorted((c for c in cells if c.phase == "shard" and c.shard == shard), key=lambda c: c.stage)
        last = None
        for cell in chain:
            x = (first + cell.stage - 1) * _COLUMN
            blocks.append(Block(cell, x, y, _BOX, _TALL, f"Shard {shard + 1}, stage {cell.stage}"))
            if last is not None:
                arrows.append((last + _BOX, y + _TALL // 2, x, y + _TALL // 2))
            elif public:
                arrows.append((_BOX, middle, x, y + _TALL // 2))
            last = x
        if last is not None:
            arrows.append((last + _BOX, y + _TALL // 2, (first + stages) * _COLUMN, middle))
    x = (first + stages) * _COLUMN
    merge_cell = Cell("merge", -1, 0, 0, False, "retrained")
    merge = Block(merge_cell, x, middle - _TALL // 2, _BOX, _TALL, "One model") if shards else None
    if polish and merge:
        arrows.append((x + _BOX, middle, x + _COLUMN, middle))
        blocks.append(Block(polish, x + _COLUMN, middle - _TALL // 2, _BOX, _TALL, "Joint polish"))
    width = x + _BOX + (_COLUMN if polish else 0)
    return Map(tuple(blocks), tuple(arrows), merge, width, height)


def seconds(value: float) -> str:
    """Return a duration, given in seconds, for display."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def percent(value: float) -> str:
    """Return a share as a percentage."""
    return f"{value * 100:.0f} %"


def short(digest: str) -> str:
    """Return the first 16 hex digits of a digest, for display."""
    kind, _, value = digest.rpartition(":")
    return f"{kind + ':' if kind else ''}{value[:16]}…"
