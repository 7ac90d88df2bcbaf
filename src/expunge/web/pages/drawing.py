# SPDX-License-Identifier: Apache-2.0
"""Where the boxes of a drawing stand: a model's versions, and the stages of its training. Templates draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDE, HIGH, GAP_X, GAP_Y, TOP = 176, 74, 66, 26, 34
CELL_WIDE, CELL_HIGH, CELL_X, CELL_Y = 158, 50, 40, 14


@dataclass(frozen=True)
class Box:
    """A box with its lines of text; ``kind`` is the class by which the style sheet colours it."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Drawing:
    """Boxes, arrows (x1, y1, x2, y2) with what is written beside them, and the whole in words."""

    width: int
    height: int
    words: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[tuple[int, int, int, int, str]] = field(default_factory=list)


def lineage(versions: Sequence[Mapping[str, Any]]) -> Drawing:
    """Place a model's versions, each beside the one that it was made from, under the data that it saw.

    Args:
        versions: Oldest first, with ``model``, ``parent``, ``dataset``, ``state``, ``method``,
            ``guarantee`` and ``request`` (see :func:`expunge.desk.model`).
    """
    boxes: list[Box] = []
    arrows: list[tuple[int, int, int, int, str]] = []
    said: list[str] = []
    place: dict[str, int] = {}
    last_data, y = "", TOP + HIGH + GAP_Y
    for i, version in enumerate(versions):
        x = i * (WIDE + GAP_X)
        place[version["model"]] = x
        kind = version["state"]
        promise = version["guarantee"] if version["guarantee"] != "none" else "no guarantee"
        made = f"{version['method']}, {promise}" if version["method"] != promise else promise
        boxes.append(Box(x, y, WIDE, HIGH, kind, (version["model"], kind, made)))
        if version["dataset"] != last_data:
            last_data = version["dataset"]
            boxes.append(Box(x, TOP, WIDE, 40, "data", (last_data,)))
        arrows.append((x + WIDE // 2, TOP + 40, x + WIDE // 2, y, ""))
        words = f"{version['model']}, {kind}, by {version['method']} on {version['dataset']}"
        parent = version["parent"]
        if parent in place:
            start, reason = place[parent] + WIDE, version["request"]
            arrows.append((start, y + HIGH // 2, x, y + HIGH // 2, "forgot" if reason else "trained"))
            words += f", from {parent}" + (f", for the request {reason}" if reason else "")
        said.append(words)
    width = max(len(versions) * (WIDE + GAP_X) - GAP_X, WIDE)
    return Drawing(width, y + HIGH, "; ".join(said) + ".", boxes, _without_lonely(boxes, arrows))


def _without_lonely(
    boxes: Sequence[Box], arrows: Sequence[tuple[int, int, int, int, str]]
) -> list[tuple[int, int, int, int, str]]:
    """An arrow from the data only where a data box stands above; other versions saw the same data."""
    above = {box.x + box.width // 2 for box in boxes if box.kind == "data"}
    return [a for a in arrows if a[4] or a[0] in above]


def stages(cells: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """Place the stages of a training: public first, then each shard's in a row, then the polish.

    Args:
        cells: As ``map`` of ``forget --dry-run --json``; None is returned for none.
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
    again = 0
    for cell in sorted(cells, key=lambda c: (c["shard"], c["stage"])):
        if cell["phase"] == "shard":
            row = shards.index(cell["shard"])
            column, y = first + max(cell["stage"], 1) - 1, row * (CELL_HIGH + CELL_Y)
            title = f"Shard {cell['shard'] + 1}, stage {cell['stage']}"
        else:
            column, y = (0 if cell["phase"] == "public" else first + most), middle
            title = "Public data" if cell["phase"] == "public" else "Polish"
        x = column * (CELL_WIDE + CELL_X)
        again += bool(cell["retrained"] or cell["dropped"])
        word = "dropped" if cell["dropped"] else "again" if cell["retrained"] else "kept"
        kind = "kept" if word == "kept" else "again"
        lines = (title, f"{cell['images']} pictures, {word}")
        boxes.append(Box(x, y, CELL_WIDE, CELL_HIGH, kind, lines))
        if cell["phase"] == "shard" and column:
            from_y = middle if cell["stage"] <= 1 else y
            arrows.append((x - CELL_X, from_y + CELL_HIGH // 2, x, y + CELL_HIGH // 2, ""))
        if cell["phase"] == "polish":
            arrows += [
                (x - CELL_X, row * (CELL_HIGH + CELL_Y) + CELL_HIGH // 2, x, y + CELL_HIGH // 2, "")
                for row in range(len(shards))
            ]
    columns = first + most + (1 if any(cell["phase"] == "polish" for cell in cells) else 0)
    words = f"{len(cells)} stages, of which {again} are trained again or dropped and the rest is kept"
    width = columns * (CELL_WIDE + CELL_X) - CELL_X
    return Drawing(max(width, CELL_WIDE), height, words, boxes, arrows)
