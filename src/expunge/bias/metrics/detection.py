# SPDX-License-Identifier: Apache-2.0
"""Metrics of a detector by the group of the object or of the image, as pure functions of boxes.

Matching and average precision are those of ``YOLO.val``. In the order of their confidence, detections are
matched to the unmatched object of their class with the largest overlap, if it reaches the threshold.
Precision is made monotonically decreasing in recall and read at 101 points (COCO).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.bias.metrics.classification import Indices, Numbers
from expunge.tasks.boxes import PictureBoxes, box_overlap

THRESHOLDS = np.linspace(0.5, 0.95, 10)
COLUMNS = np.arange(len(THRESHOLDS))
PLACES = np.linspace(0, 1, 101)
FOUND_FROM = 0
"""Index of the threshold (0.5) from which an object counts as found."""


@dataclass(frozen=True)
class Matches:
    """All detections and objects of a list of images, matched.

    Attributes:
        picture: (M,) image of each detection.
        scores: (M,) confidence of each detection.
        predicted: (M,) class of each detection.
        taken: (M, T) matched object at each threshold, among all objects; −1: none.
        object_picture: (N,) image of each object.
        classes: (N,) class of each object.
        score: (N,) confidence with which each object was found at an overlap of 0.5; −∞: not found.
    """

    picture: Indices
    scores: Numbers
    predicted: Indices
    taken: Indices
    object_picture: Indices
    classes: Indices
    score: Numbers


def matched(pictures: Sequence[PictureBoxes]) -> Matches:
    """Return the matches of detections and objects of each image; see the module."""
    offset, taken, scores = 0, [], []
    for p in pictures:
        order = np.argsort(-p.scores, kind="stable")
        shared = box_overlap(p.boxes, p.found) * (p.classes[:, None] == p.said[None])
        own = np.full((len(p.scores), len(THRESHOLDS)), -1, dtype=np.int64)
        free = np.ones((len(p.boxes), len(THRESHOLDS)), dtype=bool)
        for j in order[(shared[:, order] >= THRESHOLDS[0]).any(axis=0)]:
            available = np.where(free, shared[:, j, None], 0.0)
            best = available.argmax(axis=0)
            ok = np.flatnonzero(available[best, COLUMNS] >= THRESHOLDS)
            free[best[ok], ok] = False
            own[j, ok] = best[ok]
        score = np.full(len(p.boxes), -np.inf)
        hit = own[:, FOUND_FROM] >= 0
        score[own[hit, FOUND_FROM]] = p.scores[hit]
        taken.append(np.where(own >= 0, own + offset, -1))
        scores.append(score)
        offset += len(p.boxes)
    return Matches(
        np.repeat(np.arange(len(pictures)), [len(p.scores) for p in pictures]),
        _concatenated([p.scores for p in pictures]),
        _concatenated_indices([p.said for p in pictures]),
        np.concatenate([*taken, np.empty((0, len(THRESHOLDS)), dtype=np.int64)]),
        np.repeat(np.arange(len(pictures)), [len(p.boxes) for p in pictures]),
        _concatenated_indices([p.classes for p in pictures]),
        _concatenated(scores),
    )


def working_point(matches: Matches) -> float:
    """Return the confidence with the highest F1, over all classes and at an overlap of 0.5."""
    order = np.argsort(-matches.scores, kind="stable")
    hits = np.cumsum(matches.taken[order, FOUND_FROM] >= 0)
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + len(matches.classes))
    return float(matches.scores[order][int(f1.argmax())]) if len(order) else 0.0


def found_share(
    matches: Matches, group: Indices, groups: int, confidence: float, weights: Numbers | None = None
) -> Numbers:
    """Return the recall of each group of objects (G,).

    Args:
        matches: All matches.
        group: (N,) group of each object.
        groups: G.
        confidence: Minimum confidence of a detection.
        weights: (images,) multiplicity of each image; None: 1.
    """
    own = np.ones(len(group)) if weights is None else weights[matches.object_picture]
    whole = np.bincount(group, weights=own, minlength=groups)
    part = np.bincount(group, weights=own * (matches.score >= confidence), minlength=groups)
    share: Numbers = np.divide(part, whole, out=np.full(groups, np.nan), where=whole > 0)
    return share


def mean_average_precision(
    matches: Matches,
    objects: NDArray[np.bool_],
    pictures: NDArray[np.bool_],
    weights: Numbers | None = None,
) -> tuple[float, float]:
    """Return mAP50 and mAP50-95 over the given objects; NaN if there are none.

    A detection matched to another object is ignored; an unmatched one is a false positive if it is in one of
    the given images.

    Args:
        matches: All detections and objects.
        objects: (N,) whether each object is to be found.
        pictures: (images,) whether false positives in each image count.
        weights: (images,) multiplicity of each image; None: 1.
    """
    once = np.ones(len(pictures)) if weights is None else weights
    wanted = np.append(objects, False)  # the last entry is for unmatched detections (−1)
    counts = once[matches.picture] > 0
    counts &= pictures[matches.picture] | wanted[matches.taken].any(axis=1)
    precision: list[Numbers] = []
    for k in np.unique(matches.classes[objects]):
        whole = float(once[matches.object_picture[objects & (matches.classes == k)]].sum())
        if whole <= 0:
            continue
        own = np.flatnonzero((matches.predicted == k) & counts)
        own = own[np.argsort(-matches.scores[own], kind="stable")]
        taken, where = matches.taken[own], matches.picture[own]
        right = wanted[taken] * once[where][:, None]
        wrong = ((taken < 0) & pictures[where][:, None]) * once[where][:, None]
        precision.append(_areas(right.cumsum(0), wrong.cumsum(0), whole))
    if not precision:
        return float("nan"), float("nan")
    mean = np.mean(precision, axis=0)
    return float(mean[0]), float(mean.mean())


def _areas(right: Numbers, wrong: Numbers, whole: float) -> Numbers:
    """Return the average precision (T,) of one class from cumulative true and false positives (m, T)."""
    found = []
    for hits, misses in zip(right.T, wrong.T, strict=True):
        counted = hits + misses > 0
        if not counted.any():
            found.append(0.0)
            continue
        recall, precise = hits[counted] / whole, hits[counted] / (hits + misses)[counted]
        reached = np.concatenate([[0.0], recall, [recall[-1], 1.0]])
        falling = np.maximum.accumulate(np.concatenate([[1.0], precise, [0.0, 0.0]])[::-1])[::-1]
        read = np.interp(PLACES, reached, falling)
        found.append(float(((read[1:] + read[:-1]) / 2).mean()))
    return np.array(found)


def _concatenated(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([*parts, np.empty(0)])


def _concatenated_indices(parts: Sequence[Indices]) -> Indices:
    return np.concatenate([*parts, np.empty(0, dtype=np.int64)])
