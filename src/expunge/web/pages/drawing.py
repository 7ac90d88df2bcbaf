# SPDX-License-Identifier: Apache-2.0
"""Layout of diagrams: the versions of a model, and the stages of a training. Templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDE, HIGH, GAP_X, GAP_Y, DATA_HIGH = 176, 74, 66, 30, 36
CELL_WIDE, CELL_HIGH, CELL_X, CELL_Y = 158, 50, 40, 14


@dataclass(frozen=True)
class Box:
    """A box with lines of text. ``kind``: its CSS class."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Arrow:
    """A line through points, with a tip if it has a label."""

    points: tuple[tuple[int, int], ...]
    label: str = ""

    @property
    def line(self) -> str:
        """The line as an SVG path."""
        return "M" + "L".join(f"{x} {y}" for x, y in self.points)

    @property
    def tip(self) -> str:
        """The tip as an SVG path; it points upwards if the line comes from below, else to the right."""
        (_, before), (x, y) = self.points[-2:]
        return f"M{x} {y}l-4.5 8h9z" if before > y else f"M{x} {y}l-8 -4.5v9z"

    @property
    def beside(self) -> tuple[int, int]:
        """The centre of the label (x, y)."""
        (x1, y1), (x2, y2) = self.points[len(self.points) // 2 - 1 : len(self.points) // 2 + 1]
        return (x1 + x2) // 2 - 3, (y1 + y2) // 2 - 6


@dataclass(frozen=True)
class Drawing:
    """A diagram of boxes and arrows. ``words``: the same content as text, for screen readers."""

    width: int
    height: int
    words: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)


def lineage(versions: Sequence[Mapping[str, Any]]) -> Drawing:
    """Return a diagram of a model's versions, below their training data, with arrows from their parents.

    Args:
        versions: Versions, oldest first, with ``model``, ``parent``, ``dataset``, ``state``, ``method``,
            ``guarantee`` and ``request`` (see :func:`expunge.web.queries.model`).
    """
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    sentences: list[str] = []
    position: dict[str, int] = {}
    last_data, y, deepest = "", DATA_HIGH + GAP_Y, 0
    for i, version in enumerate(versions):
        x = i * (WIDE + GAP_X)
        position[version["model"]] = i
        kind, guarantee = version["state"], version["guarantee"]
        guarantee = guarantee if guarantee != "none" else "no guarantee"
        origin = f"{version['method']}, {guarantee}" if version["method"] != guarantee else guarantee
        boxes.append(Box(x, y, WIDE, HIGH, kind, (version["model"], kind, origin)))
        if version["dataset"] != last_data:
            last_data = version["dataset"]
            boxes.append(Box(x, 0, WIDE, DATA_HIGH, "data", (last_data,)))
            arrows.append(Arrow(((x + WIDE // 2, DATA_HIGH), (x + WIDE // 2, y))))
        words = f"{version['model']}, {kind}, by {version['method']} on {version['dataset']}"
        if version["parent"] in position:
            words += f", from {version['parent']}"
            words += f", for the request {version['request']}" if version["request"] else ""
            label = "forgot" if version["request"] else "trained on"
            distance = i - position[version["parent"]]
            start = position[version["parent"]] * (WIDE + GAP_X)
            if distance == 1:
                middle = y + HIGH // 2
                arrows.append(Arrow(((start + WIDE, middle), (x, middle)), label))
            else:  # draw the arrow below the versions in between
                depth = y + HIGH + 20 * (distance - 1)
                deepest = max(deepest, depth)
                down, up = start + WIDE - 24, x + 24
                points = ((down, y + HIGH), (down, depth), (up, depth), (up, y + HIGH))
                arrows.append(Arrow(points, label))
        sentences.append(words)
    width = max(len(versions) * (WIDE + GAP_X) - GAP_X, WIDE)
    return Drawing(width, max(y + HIGH, deepest + 6), "; ".join(sentences) + ".", boxes, arrows)


def stages(cells: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """Return a diagram of the stages of a training: public, then one row per shard, then the polish.

    Args:
        cells: Stages, as ``map`` of ``forget --dry-run --json``. If there are none, the result is None.
    """
    if not cells:
        return None
    shards = sorted({cell["shard"] for cell in cells if cell["phase"] == "shard"})
    first = 1 if any(cell["phase"] == "public" for cell in cells) else 0
    most = max((cell["stage"] for cell in cells if cell["phase"] == "shard"), default=0)
    rows = max(len(shards), 1)
    height = rows * (CELL_HIGH + CELL_Y) - CELL_Y
    middle = (height - CELL_HIGH) // 2
    boxes, arrows = [], []
    changed = 0
    for cell in sorted(cells, key=lambda c: (c["shard"], c["stage"])):
        if cell["phase"] == "shard":
            row = shards.index(cell["shard"])
            column, y = first + max(cell["stage"], 1) - 1, row * (CELL_HIGH + CELL_Y)
            title = f"Shard {cell['shard'] + 1}, stage {cell['stage']}"
        else:
            column, y = (0 if cell["phase"] == "public" else first + most), middle
            title = "Public data" if cell["phase"] == "public" else "Polish"
        x = column * (CELL_WIDE + CELL_X)
        changed += bool(cell["retrained"] or cell["dropped"])
        word = "dropped" if cell["dropped"] else "again" if cell["retrained"] else "kept"
        kind = "kept" if word == "kept" else "again"
        lines = (title, f"{cell['images']} pictures, {word}")
        boxes.append(Box(x, y, CELL_WIDE, CELL_HIGH, kind, lines))
        if cell["phase"] == "shard" and column:
            from_y = middle if cell["stage"] <= 1 else y
            arrows.append(Arrow(((x - CELL_X, from_y + CELL_HIGH // 2), (x, y + CELL_HIGH // 2))))
        if cell["phase"] == "polish":
            arrows += [
                Arrow(((x - CELL_X, row * (CELL_HIGH + CELL_Y) + CELL_HIGH // 2), (x, y + CELL_HIGH // 2)))
                for row in range(len(shards))
            ]
    columns = first + most + (1 if any(cell["phase"] == "polish" for cell in cells) else 0)
    words = f"{len(cells)} stages, of which {changed} are trained again or dropped and the rest is kept"
    width = columns * (CELL_WIDE + CELL_X) - CELL_X
    return Drawing(max(width, CELL_WIDE), height, words, boxes, arrows)
