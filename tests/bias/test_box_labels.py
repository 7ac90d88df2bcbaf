# SPDX-License-Identifier: Apache-2.0
"""Doubts about boxes: against cleanlab's ObjectLab, and on errors that were planted."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.object_detection.rank import (
    compute_badloc_box_scores,
    compute_overlooked_box_scores,
    compute_swap_box_scores,
    pool_box_scores_per_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.tasks.box_labels import (
    KINDS,
    combine_kinds,
    label_doubt,
    qualities,
    similarity,
    softmin,
    suppress_overlapping,
)
from expunge.tasks.boxes import PictureBoxes

LEFT, RIGHT, SHIFTED = [0.0, 0, 10, 10], [20.0, 0, 30, 10], [0.0, 6, 10, 16]
CLASSES = 3


def picture(truth: list[list[float]], classes: list[int], found: list[list[float]]) -> PictureBoxes:
    """Return a picture; detections are xyxy, confidence, class."""
    rows = np.array(found, dtype=np.float64).reshape(-1, 6)
    boxes = np.array(truth, dtype=np.float64).reshape(-1, 4)
    return PictureBoxes(
        boxes, np.array(classes, dtype=np.int64), rows[:, :4], rows[:, 4], rows[:, 5].astype(int)
    )


@pytest.mark.parametrize(
    ("truth", "classes", "found", "worst"),
    [
        ([LEFT], [0], [[*LEFT, 0.9, 0]], None),
        ([LEFT], [0], [[*LEFT, 0.9, 0], [*RIGHT, 0.9, 0]], "overlooked"),
        ([], [], [[*RIGHT, 0.9, 0]], "overlooked"),
        ([SHIFTED], [0], [[*LEFT, 0.95, 0]], "misplaced"),
        ([LEFT], [1], [[*LEFT, 0.9, 0]], "swapped"),
        ([LEFT, RIGHT], [0, 0], [[*LEFT, 0.9, 0]], "spurious"),
        ([LEFT], [0], [], "spurious"),
        ([], [], [], None),
    ],
)
def test_each_kind_of_error_is_found(
    truth: list[list[float]], classes: list[int], found: list[list[float]], worst: str | None
) -> None:
    (doubts,) = label_doubt([picture(truth, classes, found)])
    assert ((doubts >= 0) & (doubts <= 1)).all()
    if worst is None:
        assert doubts.max() < 0.15
    elif worst == "misplaced":  # a box in a wrong place has nothing that supports it, either
        assert doubts[KINDS.index(worst)] > 0.4
        assert doubts[[KINDS.index("overlooked"), KINDS.index("swapped")]].max() < 0.15
    else:
        assert KINDS[int(doubts.argmax())] == worst
        assert doubts.max() > 0.5


def drawn(rng: np.random.Generator, certain: bool) -> PictureBoxes:
    """A picture in which some detections are near a labelled box, and some are not."""
    n, m = int(rng.integers(0, 4)), int(rng.integers(0, 6))

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, 60, (count, 2)).astype(np.float64)
        return np.concatenate([corner, corner + rng.integers(6, 30, (count, 2))], axis=1)

    truth, found = boxes(n), boxes(m)
    if n and m:
        found[0] = truth[0] + rng.normal(0, 1, 4)
    scores = np.ones(m) if certain else rng.uniform(0.01, 1, m)
    return PictureBoxes(truth, rng.integers(0, CLASSES, n), found, scores, rng.integers(0, CLASSES, m))


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_where_detections_are_certain_the_scores_are_those_of_cleanlab(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = [drawn(rng, certain=True) for _ in range(4)]
    labels = [{"bboxes": p.boxes, "labels": p.classes} for p in pictures]
    detections = [by_class(p) for p in pictures]
    theirs = {
        "overlooked": compute_overlooked_box_scores(labels=labels, predictions=detections),
        "misplaced": compute_badloc_box_scores(labels=labels, predictions=detections),
        "swapped": compute_swap_box_scores(
            labels=labels, predictions=detections, overlapping_label_check=False
        ),
    }
    alike = np.concatenate([similarity(p.boxes, p.found).ravel() for p in pictures])
    floor = {"swapped": alike.min(initial=1.0)}  # of any picture: below it theirs does not go
    for kind, scores in theirs.items():
        pooled = pool_box_scores_per_image(scores)
        for i, p in enumerate(pictures):
            ours = np.maximum(qualities(p)[kind], floor.get(kind, 0.0))
            known = np.asarray(scores[i])[~np.isnan(scores[i])]
            np.testing.assert_allclose(np.sort(ours), np.sort(known), atol=1e-9)
            assert softmin(ours) == pytest.approx(pooled[i])


def by_class(p: PictureBoxes) -> np.ndarray:
    """The detections as cleanlab takes them: for each class its boxes with their confidence."""
    made = np.empty(CLASSES, dtype=object)
    for k in range(CLASSES):
        own = p.said == k
        made[k] = np.concatenate([p.found[own], p.scores[own, None]], axis=1)
    return made


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_less_certain_detections_raise_fewer_doubts(seed: int) -> None:
    p = drawn(np.random.default_rng(seed), certain=False)
    timid = PictureBoxes(p.boxes, p.classes, p.found, p.scores / 2, p.said)
    for kind, ours in qualities(p).items():
        others = qualities(timid)[kind]
        assert ((others <= ours) if kind == "spurious" else (others >= ours)).all()


def test_planted_errors_are_found_and_a_random_ranking_finds_chance() -> None:
    """Simulated detections: near the true boxes, of their class, as sure as they like, with false alarms."""
    rng = np.random.default_rng(0)
    pictures, wrong = [], np.zeros(200, dtype=bool)
    wrong[rng.choice(200, 40, replace=False)] = True
    for i in range(200):
        true = np.array([[4.0, 4, 20, 20], [30.0, 8, 50, 28]])
        classes = rng.integers(0, CLASSES, 2)
        alarm = [*(rng.uniform(34, 40, 2)), *(rng.uniform(50, 60, 2))]
        found = np.concatenate([true + rng.normal(0, 1, (2, 4)), [alarm]])
        scores = np.array([*rng.uniform(0.4, 0.9, 2), rng.uniform(0.01, 0.3)])
        boxes, named = true.copy(), classes.copy()
        if wrong[i]:
            kind = i % 4
            if kind == 0:
                boxes, named = boxes[1:], named[1:]
            elif kind == 1:
                boxes[0] += 8
            elif kind == 2:
                named[0] = (named[0] + 1) % CLASSES
            else:
                boxes = np.concatenate([boxes, [[6.0, 40, 18, 56]]])
                named = np.append(named, 0)
        pictures.append(PictureBoxes(boxes, named, found, scores, np.append(classes, 0)))
    harm = combine_kinds(label_doubt(pictures))
    assert wrong[np.argsort(-harm)[:40]].mean() > 0.85
    assert wrong[rng.permutation(200)[:40]].mean() < 0.4


def test_of_overlapping_detections_the_most_confident_counts() -> None:
    torn = picture([LEFT], [0], [[*LEFT, 0.7, 0], [*LEFT, 0.4, 1], [*RIGHT, 0.1, 1]])
    assert suppress_overlapping(torn).scores.tolist() == [0.7, 0.1]
    assert label_doubt([torn])[0, KINDS.index("swapped")] < 0.1
    other = picture([LEFT], [0], [[*LEFT, 0.4, 0], [*LEFT, 0.7, 1]])
    assert label_doubt([other])[0, KINDS.index("swapped")] > 0.5
    equal = picture([LEFT], [0], [[*LEFT, 0.5, 0], [*LEFT, 0.5, 1]])
    assert len(suppress_overlapping(equal).scores) == 2


def test_a_soft_minimum_lies_between_the_least_and_the_mean() -> None:
    values = np.array([0.2, 0.9, 1.0])
    assert values.min() < softmin(values) < values.mean()
    assert softmin(np.array([])) == 1
