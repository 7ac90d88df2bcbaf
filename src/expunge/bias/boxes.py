# SPDX-License-Identifier: Apache-2.0
"""Figures of a detector by the group of the object, or of the image: pure functions of boxes.

Matching and average precision are those of ``YOLO.val``: detections in the order of their confidence take the
free object of their class that they overlap most, if by the threshold; precision is made to fall with recall
and read at 101 places (COCO).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.bias.metrics import Indices, Numbers

THRESHOLDS = np.linspace(0.5, 0.95, 10)
COLUMNS = np.arange(len(THRESHOLDS))
PLACES = np.linspace(0, 1, 101)
FOUND_FROM = 0
"""Place of the threshold (0.5) from which an object counts as found."""


@dataclass(frozen=True)
class Picture:
    """What is in an image, and what a model says is. Boxes are xyxy, in pixels of the same size of image.

    Attributes:
        boxes: (n, 4) of the objects.
        classes: (n,) of the objects.
        found: (m, 4) of the detections.
        scores: (m,) their confidence.
        said: (m,) their classes.
    """

    boxes: Numbers
    classes: Indices
    found: Numbers
    scores: Numbers
    said: Indices


@dataclass(frozen=True)
class Matches:
    """All detections and objects of a list of images, matched.

    Attributes:
        picture: (M,) the image of each detection.
        scores: (M,) its confidence.
        said: (M,) its class.
        taken: (M, T) the object that it took at each threshold, among all objects; −1: none.
        object_picture: (N,) the image of each object.
        classes: (N,) its class.
        score: (N,) the confidence with which it was found at an overlap of 0.5; −∞: it was not.
    """

    picture: Indices
    scores: Numbers
    said: Indices
    taken: Indices
    object_picture: Indices
    classes: Indices
    score: Numbers


def overlap(boxes: Numbers, others: Numbers) -> Numbers:
    """Return the intersection over union (n, m) of boxes (n, 4) and (m, 4), xyxy."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [np.prod(part[:, 2:] - part[:, :2], axis=1) for part in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - shared
    found: Numbers = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def matched(pictures: Sequence[Picture]) -> Matches:
    """Match detections and objects of each image; see the module."""
    offset, taken, scores = 0, [], []
    for p in pictures:
        order = np.argsort(-p.scores, kind="stable")
        shared = overlap(p.boxes, p.found) * (p.classes[:, None] == p.said[None])
        own = np.full((len(p.scores), len(THRESHOLDS)), -1, dtype=np.int64)
        free = np.ones((len(p.boxes), len(THRESHOLDS)), dtype=bool)
        for j in order[(shared[:, order] >= THRESHOLDS[0]).any(axis=0)]:
            left = np.where(free, shared[:, j, None], 0.0)
            best = left.argmax(axis=0)
            ok = np.flatnonzero(left[best, COLUMNS] >= THRESHOLDS)
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
        _reals([p.scores for p in pictures]),
        _wholes([p.said for p in pictures]),
        np.concatenate([*taken, np.empty((0, len(THRESHOLDS)), dtype=np.int64)]),
        np.repeat(np.arange(len(pictures)), [len(p.boxes) for p in pictures]),
        _wholes([p.classes for p in pictures]),
        _reals(scores),
    )


def working_point(matches: Matches) -> float:
    """Return the confidence at which F1, over all classes and at an overlap of 0.5, is highest."""
    order = np.argsort(-matches.scores, kind="stable")
    hits = np.cumsum(matches.taken[order, FOUND_FROM] >= 0)
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + len(matches.classes))
    return float(matches.scores[order][int(f1.argmax())]) if len(order) else 0.0


def found_share(
    matches: Matches, group: Indices, groups: int, confidence: float, weights: Numbers | None = None
) -> Numbers:
    """Return (G,) the recall of each group of objects: the share found with at least this confidence.

    Args:
        matches: All objects.
        group: (N,) the group of each object.
        groups: G.
        confidence: From which detections count.
        weights: (images,) how often each image counts; None: once.
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
    """Return mAP50 and mAP50-95 over some objects; NaN where there are none.

    A detection that took another object is neither right nor wrong; one that took none is a false alarm if it
    is in one of the images that are looked at.

    Args:
        matches: All detections and objects.
        objects: (N,) the objects that are to be found.
        pictures: (images,) whose false alarms count.
        weights: (images,) how often each image counts; None: once.
    """
    once = np.ones(len(pictures)) if weights is None else weights
    wanted = np.append(objects, False)  # that of no object, at −1
    counts = once[matches.picture] > 0
    counts &= pictures[matches.picture] | wanted[matches.taken].any(axis=1)
    precision: list[Numbers] = []
    for k in np.unique(matches.classes[objects]):
        whole = float(once[matches.object_picture[objects & (matches.classes == k)]].sum())
        if whole <= 0:
            continue
        own = np.flatnonzero((matches.said == k) & counts)
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
    """The average precision (T,) of one class, from what was right and wrong up to each detection (m, T)."""
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


def _reals(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([*parts, np.empty(0)])


def _wholes(parts: Sequence[Indices]) -> Indices:
    return np.concatenate([*parts, np.empty(0, dtype=np.int64)])
