# SPDX-License-Identifier: AGPL-3.0-or-later
"""Figures of detectors by group: against Ultralytics' own, by hand, and under what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ap_per_class, box_iou

from expunge.bias.metrics.detection import (
    THRESHOLDS,
    found_share,
    matched,
    mean_average_precision,
    working_point,
)
from expunge.tasks.boxes import PictureBoxes, box_overlap

PERFECT = (0.995, 0.995)  # as Ultralytics reads it: precision falls to 0 at the last of 101 places


def pictures(seed: int, count: int = 40, classes: int = 2) -> list[PictureBoxes]:
    """Images with up to five objects, most of them found, some twice, and false alarms."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        n = int(rng.integers(0, 6))
        corner = rng.uniform(0, 60, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 30, (n, 2))], axis=1)
        own = rng.integers(0, classes, n)
        again = rng.integers(0, n, int(rng.integers(0, 8))) if n else np.empty(0, np.int64)
        near = boxes[again] + rng.normal(0, 2, (len(again), 4))
        corner = rng.uniform(0, 60, (int(rng.integers(0, 3)), 2))
        wild = np.concatenate([corner, corner + 20], axis=1)
        found = np.concatenate([near, wild])
        said = np.concatenate([own[again], rng.integers(0, classes, len(wild))])
        made.append(PictureBoxes(boxes, own, found, rng.random(len(found)), said))
    return made


def theirs(made: list[PictureBoxes]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Ultralytics' average precision (classes, 10), and its matches of each image."""
    validator = BaseValidator.__new__(BaseValidator)
    validator.iouv = torch.tensor(THRESHOLDS)
    hits = []
    for p in made:
        order = np.argsort(-p.scores, kind="stable")
        iou = box_iou(torch.tensor(p.boxes), torch.tensor(p.found[order]))
        hit = validator.match_predictions(torch.tensor(p.said[order]), torch.tensor(p.classes), iou).numpy()
        back = np.empty_like(hit)
        back[order] = hit
        hits.append(back)
    found = ap_per_class(
        np.concatenate(hits),
        np.concatenate([p.scores for p in made]),
        np.concatenate([p.said for p in made]),
        np.concatenate([p.classes for p in made]),
    )
    return found[5], hits


@pytest.mark.parametrize("seed", range(4))
def test_matches_and_precision_are_those_of_ultralytics(seed: int) -> None:
    made = pictures(seed)
    matches = matched(made)
    areas, hits = theirs(made)
    np.testing.assert_array_equal(matches.taken >= 0, np.concatenate(hits))
    everything = np.ones(len(matches.classes), bool), np.ones(len(made), bool)
    at_50, mean = mean_average_precision(matches, *everything)
    assert at_50 == pytest.approx(areas[:, 0].mean(), abs=1e-9)
    assert mean == pytest.approx(areas.mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_images_of_a_group_are_as_a_data_set_of_their_own(seed: int) -> None:
    made = pictures(seed)
    group = np.arange(len(made)) % 3 == 0
    matches = matched(made)
    few = mean_average_precision(matches, group[matches.object_picture], group)
    alone = theirs([p for p, own in zip(made, group, strict=True) if own])[0]
    assert few == pytest.approx((alone[:, 0].mean(), alone.mean()), abs=1e-9)


def test_weights_are_repetitions() -> None:
    made = pictures(0, 15)
    weights = np.random.default_rng(1).integers(0, 3, len(made))
    repeated = [p for p, w in zip(made, weights, strict=True) for _ in range(w)]
    one, other = matched(made), matched(repeated)
    both = (one, 15), (other, len(repeated))
    whole = [(np.ones(len(m.classes), bool), np.ones(n, bool)) for m, n in both]
    weighted = mean_average_precision(one, *whole[0], weights.astype(float))
    # Ties between copies of one detection are broken otherwise: precision is read between them.
    assert weighted == pytest.approx(mean_average_precision(other, *whole[1]), abs=0.02)
    zero = np.zeros(len(one.classes), dtype=np.int64), np.zeros(len(other.classes), dtype=np.int64)
    assert found_share(one, zero[0], 1, 0.5, weights.astype(float)) == pytest.approx(
        found_share(other, zero[1], 1, 0.5)
    )


def test_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60.0]])
    picture = PictureBoxes(boxes, np.array([0, 0]), found, np.array([0.9, 0.8, 0.3]), np.array([0, 0, 0]))
    matches = matched([picture])
    assert matches.taken[:, 0].tolist() == [0, -1, -1]
    assert matches.score.tolist() == [0.9, -np.inf]
    group = np.array([0, 1])
    assert found_share(matches, group, 3, 0.5)[:2].tolist() == [1, 0]
    assert np.isnan(found_share(matches, group, 3, 0.5)[2])
    assert found_share(matches, group, 2, 0.95).tolist() == [0, 0]
    assert working_point(matches) == 0.9
    seen = np.ones(1, bool)
    assert mean_average_precision(matches, group == 0, seen) == pytest.approx(PERFECT)
    assert mean_average_precision(matches, group == 1, seen) == (0, 0)
    assert np.isnan(mean_average_precision(matches, group == 2, seen)).all()


def test_another_groups_object_is_neither_right_nor_wrong() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    picture = PictureBoxes(boxes, np.array([0, 0]), boxes, np.array([0.9, 0.8]), np.array([0, 0]))
    matches = matched([picture])
    for own in (0, 1):
        assert mean_average_precision(matches, np.arange(2) == own, np.ones(1, bool)) == pytest.approx(
            PERFECT
        )


def test_nothing_at_all() -> None:
    empty = PictureBoxes(*(np.empty((0, 4)), np.empty(0, np.int64)) * 1, np.empty((0, 4)), np.empty(0),
                    np.empty(0, np.int64))  # fmt: skip
    matches = matched([empty, empty])
    assert working_point(matches) == 0
    assert np.isnan(mean_average_precision(matches, np.ones(0, bool), np.ones(2, bool))).all()
    assert box_overlap(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0
