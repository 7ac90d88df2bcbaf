# SPDX-License-Identifier: Apache-2.0
"""Write the contact sheet of a search: the ranked images with their labels and the model's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expunge.bias.attribution.ranking import SAMPLE, Ranking
from expunge.data.contact_sheet import MAX_PAIRS, image_element, write_page
from expunge.data.thumbnail import Box, upright_size

if TYPE_CHECKING:
    from torch import nn

    from expunge.bias.label_quality import Doubts
    from expunge.bias.search import Search, SearchContext
    from expunge.data.types import Sample
    from expunge.tasks.protocol import Task

LABELLED, FOUND = "#19a974", "#ff6300"
CONFIDENCE = 0.25


@dataclass(frozen=True)
class Prediction:
    """An image's label and the model's prediction, as text, and the boxes to draw with their colours."""

    label: str
    model: str
    boxes: tuple[tuple[Box, str], ...] = ()


def write_ranked_sheet(
    path: Path,
    context: SearchContext,
    ranking: Ranking,
    shown: Sequence[tuple[int, int]],
    doubts: Doubts,
    task: Task,
    module: nn.Module,
    search: Search,
) -> None:
    """Write the page, readable by its owner alone.

    Args:
        path: Path of the page.
        context: The training samples.
        ranking: The ranking.
        shown: Pairs of an item's place in the ranking and the index of one of its training samples; the
            first 300 are shown.
        doubts: Doubts about labels.
        task, module: The model, for predictions.
        search: Arguments of the search.

    Raises:
        StorageError: If it cannot be written.
        InputError: If an image differs from the manifest.
    """
    few = list(shown[:MAX_PAIRS])
    samples = [context.train[row] for _, row in few]
    classify = context.opened.task == "classify"
    if classify:
        predictions = _class_predictions(context, task, module, samples)
    else:
        predictions = _box_predictions(context, samples, search)
    rows = "".join(
        _row(
            context,
            ranking,
            item,
            context.train[row],
            prediction,
            float(doubts.scores[row]),
            doubts.kind(row),
        )
        for (item, row), prediction in zip(few, predictions, strict=True)
    )
    more = f" Of {len(shown)} pictures the first {MAX_PAIRS} are shown." if len(shown) > MAX_PAIRS else ""
    colours = (
        ""
        if classify
        else f' Boxes: <span style="color:{LABELLED}">labelled</span>, '
        f'<span style="color:{FOUND}">found by the model</span>.'
    )
    write_page(
        path,
        f"What harms {context.published.label}",
        f"Training pictures of {escape(context.version.label)}, the most harmful first by "
        f"{escape(ranking.ranked_by)}, ranked by {escape(ranking.by)}.{more}{colours} A high rank is a "
        "reason to look, not a proof: the model may be wrong, and the label right.",
        rows,
    )


def _row(
    context: SearchContext,
    ranking: Ranking,
    item: int,
    sample: Sample,
    prediction: Prediction,
    doubt: float,
    kind: str,
) -> str:
    people = ", ".join(sample.subjects) or "nobody"
    name = "" if ranking.by == SAMPLE else f"<b>{escape(ranking.names[item])}</b><br>"
    scores = "<br>".join(
        f"{escape(kind)} {_number(float(values[item]))}" for kind, values in ranking.scores.items()
    )
    return (
        f"<tr><td>{item + 1}</td><td>{image_element(context.version.root / sample.path, prediction.boxes)}"
        f"<small>{escape(sample.path)}<br>{escape(people)}</small></td>"
        f"<td>labelled: {escape(prediction.label)}<br>model: {escape(prediction.model)}"
        f"<br>doubt {_number(doubt)}{f' ({kind})' if kind else ''}</td><td>{name}{scores}</td></tr>"
    )


def _class_predictions(
    context: SearchContext, task: Task, module: nn.Module, samples: Sequence[Sample]
) -> list[Prediction]:
    from expunge.bias.attribution.checkpoints import probabilities_of

    names = context.opened.names
    if not samples:
        return []
    probabilities = probabilities_of(task, module, context.data(samples))
    return [
        Prediction(sample.class_name or "", f"{names[int(p.argmax())]} ({p.max():.2f})")
        for sample, p in zip(samples, probabilities, strict=True)
    ]


def _box_predictions(context: SearchContext, samples: Sequence[Sample], search: Search) -> list[Prediction]:
    from expunge.tasks.predictions import detections

    place = (context.version.root, context.version.config, list(samples), search.device)
    pictures = detections([context.opened], *place) if samples else []
    predictions = []
    for sample, picture in zip(samples, pictures, strict=True):
        letterbox = _letterbox(context.version.root / sample.path, context.opened.imgsz)
        shown = picture.scores >= CONFIDENCE
        found = [
            f"{context.opened.names[c]} ({p:.2f})"
            for c, p in zip(picture.said[shown], picture.scores[shown], strict=True)
        ]
        boxes = [(_relative_box(b, letterbox), FOUND) for b in picture.found[shown]]
        boxes += [(_relative_box(b, letterbox), LABELLED) for b in picture.boxes]
        labelled = [context.opened.names[c] for c in picture.classes]
        label, model = ", ".join(labelled) or "nothing", ", ".join(found) or "nothing"
        predictions.append(Prediction(label, model, tuple(boxes)))
    return predictions


def _letterbox(path: Path, side: int) -> tuple[float, float, float, float]:
    """Return padding (x, y) and extent (x, y), in pixels, of an image in the model's square input."""
    width, height = upright_size(path)
    ratio = side / max(width, height)
    return (side - width * ratio) / 2, (side - height * ratio) / 2, width * ratio, height * ratio


def _relative_box(box: Sequence[float], letterbox: tuple[float, float, float, float]) -> Box:
    """Return a box in pixels of the model's input as shares of the image, in 0–1."""
    x, y, width, height = letterbox
    left, top, right, bottom = (float(v) for v in box)
    clipped = np.clip(
        [(left - x) / width, (top - y) / height, (right - x) / width, (bottom - y) / height], 0, 1
    )
    return float(clipped[0]), float(clipped[1]), float(clipped[2]), float(clipped[3])


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "unknown"
