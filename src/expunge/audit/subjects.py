# SPDX-License-Identifier: Apache-2.0
"""One person, one test: all of a person's images together.

Images of a person are not independent, and each alone says little. Their calibrated scores are put together
into one score for the person, who is then compared with people that no model saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audit.checks import numbers, same_columns
from expunge.audit.ranks import RankTest, Side, rank_test
from expunge.audit.scores import Scores
from expunge.errors import InputError

How = Literal["mean", "sum"]
LEAST_UNSEEN = 19


@dataclass(frozen=True)
class SubjectScores:
    """A score for every person.

    Attributes:
        subjects: (s,) their numbers, rising.
        scores: (s,) higher means "was in the training".
        images: (s,) images of each.
    """

    subjects: NDArray[np.int64]
    scores: Scores
    images: NDArray[np.int64]

    def worst(self, count: int) -> SubjectScores:
        """Return those with the highest scores, the highest first."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return SubjectScores(self.subjects[order], self.scores[order], self.images[order])


def minus_difficulty(scores: ArrayLike, references: ArrayLike) -> Scores:
    """Return scores minus their mean over references (n,): what is left beside the image's own difficulty.

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


def subject_scores(scores: ArrayLike, groups: ArrayLike, *, how: How = "mean") -> SubjectScores:
    """Put the scores of each person's images together.

    Args:
        scores: (n,) of images: calibrated, or log-likelihood ratios (LiRA) with ``how="sum"``, whose sum is
            the ratio of the person if the images were independent.
        groups: (n,) number of the person of every image.
        how: Means of few images vary more than means of many, sums of many more than sums of few: where
            people have different numbers of images, use :func:`evened` first.

    Raises:
        InputError: If shapes do not fit or a score is not finite.
    """
    values, people = _by_person(scores, groups)
    subjects, inverse, images = np.unique(people, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, weights=values).astype(np.float64)
    return SubjectScores(subjects, sums if how == "sum" else sums / images, images.astype(np.int64))


def evened(groups: ArrayLike, images: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of ``images`` random images of every person who has that many, in rising order.

    People with fewer are left out: people are exchangeable only if the same is known of each.

    Args:
        groups: (n,) number of the person of every image.
        images: How many of each; those of the forgotten person.
        generator: Draws them.

    Raises:
        InputError: If nobody has that many.
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
    """Test the forgotten person among people whom no model saw: p = (1 + those at least as high) / (N + 1).

    Exact if forgotten and unseen people are alike but for the training. ``greater`` asks for a trace that is
    left, ``less`` for over-forgetting, ``two-sided`` for both.

    Args:
        forgotten: The person's score.
        unseen: Scores (N,) of N ≥ 19 people.
        side: The alternative.

    Raises:
        InputError: If there are fewer than 19 unseen people, or a score is not finite.
    """
    others = numbers(unseen, "the unseen people")
    if len(others) < LEAST_UNSEEN:
        raise InputError(
            f"There are {len(others)} unseen people.",
            f"With fewer than {LEAST_UNSEEN}, no p can be as small as 0.05, whatever the model knows.",
            f"Keep at least {LEAST_UNSEEN} people out of all training.",
        )
    return rank_test(forgotten, others, side=side)


def _by_person(scores: ArrayLike, groups: ArrayLike) -> tuple[Scores, NDArray[np.int64]]:
    values, people = numbers(scores, "the images"), np.asarray(groups)
    if people.shape != values.shape or not np.issubdtype(people.dtype, np.integer):
        raise InputError(
            "It is not said of every image whose it is.",
            f"{values.shape} scores; numbers of people are {people.dtype} of shape {people.shape}.",
            "Give one whole number for every image.",
        )
    return values, people.astype(np.int64)
