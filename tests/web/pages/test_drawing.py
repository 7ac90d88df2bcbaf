# SPDX-License-Identifier: Apache-2.0
"""Drawings: no box lies on another, every version and stage is there, and the words say what is drawn."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from expunge.web.pages.drawing import Box, Drawing, lineage, stages


def apart(drawing: Drawing) -> bool:
    """Whether no two boxes overlap, and all lie within the drawing."""

    def overlap(a: Box, b: Box) -> bool:
        return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height

    inside = all(b.x >= 0 and b.x + b.width <= drawing.width for b in drawing.boxes)
    inside = inside and all(b.y >= 0 and b.y + b.height <= drawing.height for b in drawing.boxes)
    return inside and not any(overlap(a, b) for a, b in itertools.combinations(drawing.boxes, 2))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Versions of a model, each made from an earlier one."""
    found: list[dict[str, Any]] = []
    for i in range(draw(st.integers(1, 8))):
        parent = draw(st.sampled_from([v["model"] for v in found])) if found else None
        request = draw(st.sampled_from([None, "r-0123456789abcdef"])) if parent else None
        found.append({
            "model": f"m@{i + 1}", "parent": parent, "request": request, "method": "exact",
            "dataset": f"shop@{draw(st.integers(1, 3))}",
            "guarantee": draw(st.sampled_from(["exact", "none"])),
            "state": "current" if draw(st.booleans()) else "superseded",
        })  # fmt: skip
    return found


@given(histories())
def test_a_lineage(versions: list[dict[str, Any]]) -> None:
    drawing = lineage(versions)
    assert apart(drawing)
    drawn = [box for box in drawing.boxes if box.kind != "data"]
    assert [box.lines[0] for box in drawn] == [v["model"] for v in versions]
    assert sum(1 for arrow in drawing.arrows if arrow.label) == sum(1 for v in versions if v["parent"])
    assert all(v["model"] in drawing.words for v in versions)


@given(
    st.sets(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_stages_of_a_training(
    places: set[tuple[int, int]], public: bool, polish: bool, again: bool
) -> None:
    cells = [{"phase": "shard", "shard": s, "stage": k} for s, k in sorted(places)]
    cells += [{"phase": "public", "shard": -1, "stage": 0}] if public else []
    cells += [{"phase": "polish", "shard": -1, "stage": 0}] if polish else []
    drawing = stages([{**cell, "images": 3, "retrained": again, "dropped": False} for cell in cells])
    assert drawing is not None
    assert apart(drawing)
    assert len(drawing.boxes) == len(cells)
    assert {box.kind for box in drawing.boxes} == {"again" if again else "kept"}
    assert f"{len(cells)} stages, of which {len(cells) if again else 0}" in drawing.words


def test_nothing_is_drawn_of_nothing() -> None:
    assert stages([]) is None


def test_boxes_on_each_other_are_found() -> None:
    """The control."""
    box = Box(0, 0, 10, 10, "", ())
    assert not apart(Drawing(20, 20, "", [box, Box(5, 5, 10, 10, "", ())]))
    assert not apart(Drawing(5, 5, "", [box]))
