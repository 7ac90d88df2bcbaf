# SPDX-License-Identifier: Apache-2.0
"""Membership test of a person, by all of the person's images together.

Images of one person are not independent, and a single image carries little evidence. Their calibrated scores
are combined into one score for the person, which is compared with the scores of people that no model saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audits.input_checks import numbers, same_columns
from expunge.audits.ranks import RankTest, Side, rank_test
from expunge.audits.scores import Scores
from expunge.errors import InputError

Aggregation = Literal["mean", "sum"]
MIN_UNSEEN = 19


@dataclass(frozen=True)
class SubjectScores:
    """Scores by person.

    Attributes:
        subjects: (s,) numbers of the people, ascending.
        scores: (s,) higher means "member".
        images: (s,) number of images of each.
    """

    subjects: NDArray[np.int64]
    scores: Scores
    images: NDArray[np.int64]

    def worst(self, count: int) -> SubjectScores:
        """Return the ``count`` people with the highest scores, highest first."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return SubjectScores(self.subjects[order], self.scores[order], self.images[order])


def minus_difficulty(scores: ArrayLike, references: ArrayLike) -> Scores:
    """Return scores minus their mean over references (n,), which removes the difficulty of each image.

    Watson et al. 2022, "On the Importance of Difficulty Calibration in Membership Inference Attacks".

    Args:
        scores: (n,) of the model under audit.
        references: (R, n) of models that never saw the images.

    Raises:
        InputError: If shapes do not fit or a score is not finite.
    """
    own, others = numbers(scores, "the model"), numbers(references, "the references", dimensions=2)
    same_columns([own, others], "model and references")
    return np.asarray(own - others.mean(axis=0), dtype=np.float64)


def subject_scores(scores: ArrayLike, groups: ArrayLike, *, how: Aggregation = "mean") -> SubjectScores:
    """Return the mean or sum of the scores of each person's images.

    Args:
        scores: (n,) of images: calibrated scores, or log-likelihood ratios (LiRA) with ``how="sum"``. The sum
            is the ratio of the person if the images are independent.
        groups: (n,) number of each image's person.
        how: ``mean`` or ``sum``. The variance of both depends on the number of images: if people differ in
            it, use :func:`evened` first.

    Raises:
        InputError: If shapes do not fit or a score is not finite.
    """
    values, people = _checked(scores, groups)
    subjects, inverse, images = np.unique(people, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, weights=values).astype(np.float64)
    return SubjectScores(subjects, sums if how == "sum" else sums / images, images.astype(np.int64))


def evened(groups: ArrayLike, images: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of ``images`` random images of each person with at least that many, ascending.

    People with fewer are left out, since people are exchangeable only with equal numbers of images.

    Args:
        groups: (n,) number of each image's person.
        images: Number of images of each, usually that of the forgotten person.
        generator: Random generator.

    Raises:
        InputError: If no person has that many.
    """
    people = np.asarray(groups)
    kept = []
    for person in np.unique(people):
        own = np.flatnonzero(people == person)
        if len(own) >= images > 0:
            kept.append(generator.permutation(own)[:images])
    if not kept:
        raise InputError(
            f"Nobody has {images} images.", "Nothing would be left to compare.", "Ask for fewer images."
        )
    return np.sort(np.concatenate(kept)).astype(np.int64)


def compare_subject(forgotten: float, unseen: ArrayLike, *, side: Side = "greater") -> RankTest:
    """Return the rank test of the forgotten person among unseen people.

    p = (1 + number of unseen people with at least that score) / (N + 1), for ``greater``. It is exact if
    forgotten and unseen people are exchangeable but for the training. ``greater`` tests for a remaining
    trace, ``less`` for over-forgetting, ``two-sided`` for both.

    Args:
        forgotten: The person's score.
        unseen: Scores (N,) of N ≥ 19 people.
        side: The alternative.

    Raises:
        InputError: If there are fewer than 19 unseen people, or a score is not finite.
    """
    others = numbers(unseen, "the unseen people")
    if len(others) < MIN_UNSEEN:
        raise InputError(
            f"There are {len(others)} unseen people.",
            f"With fewer than {MIN_UNSEEN}, p cannot be as small as 0.05.",
            f"Keep at least {MIN_UNSEEN} people out of all training.",
        )
    return rank_test(forgotten, others, side=side)


def _checked(scores: ArrayLike, groups: ArrayLike) -> tuple[Scores, NDArray[np.int64]]:
    values, people = numbers(scores, "the images"), np.asarray(groups)
    if people.shape != values.shape or not np.issubdtype(people.dtype, np.integer):
        raise InputError(
            "The numbers of the people do not fit the scores.",
            f"The scores have shape {values.shape}, the numbers {people.shape} and type {people.dtype}.",
            "Give one whole number for each image.",
        )
    return values, people.astype(np.int64)
