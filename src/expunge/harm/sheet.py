# SPDX-License-Identifier: Apache-2.0
"""The contact sheet of a search: the pictures that were found, their labels beside what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expunge.bias.ranking import SAMPLE, Ranking
from expunge.data.contact_sheet import MOST, picture_of, write_page
from expunge.data.thumbnail import Box, upright_size

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.types import Sample
    from expunge.harm.finding import Ground, Search
    from expunge.harm.labels import Doubts
    from expunge.tasks.protocol import Task

LABELLED, FOUND = "#19a974", "#ff6300"
CONFIDENCE = 0.25


@dataclass(frozen=True)
class Said:
    """A picture's label beside what the model says, in words, and boxes to draw with their colours."""

    label: str
    model: str
    boxes: tuple[tuple[Box, str], ...] = ()


def write_ranked_sheet(
    path: Path,
    ground: Ground,
    ranking: Ranking,
    shown: Sequence[tuple[int, int]],
    doubt: Doubts,
    task: Task,
    module: nn.Module,
    search: Search,
) -> None:
    """Write the page, readable for its owner alone.

    Args:
        path: Where to.
        ground: The training samples.
        ranking: What was found.
        shown: Places of items in the ranking, each with one of its training samples; the first 300 count.
        doubt: Doubts about labels.
        task, module: Say what the model says.
        search: What was looked for.

    Raises:
        StorageError: If it cannot be written.
        InputError: If a picture differs from the manifest.
    """
    few = list(shown[:MOST])
    samples = [ground.train[row] for _, row in few]
    classify = ground.opened.task == "classify"
    said = _of_classes(ground, task, module, samples) if classify else _of_boxes(ground, samples, search)
    rows = "".join(
        _row(ground, ranking, item, ground.train[row], what, float(doubt.scores[row]), doubt.kind(row))
        for (item, row), what in zip(few, said, strict=True)
    )
    more = f" Of {len(shown)} pictures the first {MOST} are shown." if len(shown) > MOST else ""
    colours = (
        ""
        if classify
        else f' Boxes: <span style="color:{LABELLED}">labelled</span>, '
        f'<span style="color:{FOUND}">found by the model</span>.'
    )
    write_page(
        path,
        f"What harms {ground.published.label}",
        f"Training pictures of {escape(ground.version.label)}, the most harmful first by "
        f"{escape(ranking.ranked_by)}, ranked by {escape(ranking.by)}.{more}{colours} A high rank is a "
        "reason to look, not a proof: the model may be wrong, and the label right.",
        rows,
    )


def _row(
    ground: Ground, ranking: Ranking, item: int, sample: Sample, said: Said, doubt: float, kind: str
) -> str:
    who = ", ".join(sample.subjects) or "nobody"
    name = "" if ranking.by == SAMPLE else f"<b>{escape(ranking.names[item])}</b><br>"
    scores = "<br>".join(
        f"{escape(kind)} {_number(float(values[item]))}" for kind, values in ranking.scores.items()
    )
    return (
        f"<tr><td>{item + 1}</td><td>{picture_of(ground.version.root / sample.path, said.boxes)}"
        f"<small>{escape(sample.path)}<br>{escape(who)}</small></td>"
        f"<td>labelled: {escape(said.label)}<br>model: {escape(said.model)}"
        f"<br>doubt {_number(doubt)}{f' ({kind})' if kind else ''}</td><td>{name}{scores}</td></tr>"
    )


def _of_classes(ground: Ground, task: Task, module: nn.Module, samples: Sequence[Sample]) -> list[Said]:
    from expunge.bias.checkpoints import probabilities_of

    names = ground.opened.names
    if not samples:
        return []
    found = probabilities_of(task, module, ground.data(samples))
    return [
        Said(sample.class_name or "", f"{names[int(p.argmax())]} ({p.max():.2f})")
        for sample, p in zip(samples, found, strict=True)
    ]


def _of_boxes(ground: Ground, samples: Sequence[Sample], search: Search) -> list[Said]:
    from expunge.tasks.predictions import detections

    place = (ground.version.root, ground.version.config, list(samples), search.device)
    pictures = detections([ground.opened], *place) if samples else []
    said = []
    for sample, picture in zip(samples, pictures, strict=True):
        share = _share(ground.version.root / sample.path, ground.opened.imgsz)
        sure = picture.scores >= CONFIDENCE
        found = [
            f"{ground.opened.names[c]} ({p:.2f})"
            for c, p in zip(picture.said[sure], picture.scores[sure], strict=True)
        ]
        boxes = [(_box(b, share), FOUND) for b in picture.found[sure]]
        boxes += [(_box(b, share), LABELLED) for b in picture.boxes]
        labelled = [ground.opened.names[c] for c in picture.classes]
        said.append(Said(", ".join(labelled) or "nothing", ", ".join(found) or "nothing", tuple(boxes)))
    return said


def _share(path: Path, side: int) -> tuple[float, float, float, float]:
    """Padding (x, y) and extent (x, y), in pixels, of a picture inside the square that the model sees."""
    width, height = upright_size(path)
    ratio = side / max(width, height)
    return (side - width * ratio) / 2, (side - height * ratio) / 2, width * ratio, height * ratio


def _box(box: Sequence[float], share: tuple[float, float, float, float]) -> Box:
    x, y, width, height = share
    left, top, right, bottom = (float(v) for v in box)
    clipped = np.clip(
        [(left - x) / width, (top - y) / height, (right - x) / width, (bottom - y) / height], 0, 1
    )
    return float(clipped[0]), float(clipped[1]), float(clipped[2]), float(clipped[3])


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "unknown"
