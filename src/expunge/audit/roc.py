# SPDX-License-Identifier: Apache-2.0
"""The ROC curve of an attack, and what may be read off it.

The true positive rate at a low false positive rate says whether *some* members are certain to be found, which
an average hides (Carlini et al. 2022, "Membership Inference Attacks From First Principles").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.audit.checks import between, numbers, sides
from expunge.audit.scores import Scores, clopper_pearson

LEAST_EXPECTED = 10
"""False positives to be expected at the rate asked for; with fewer its threshold is a matter of luck."""


@dataclass(frozen=True)
class Roc:
    """An ROC curve, from (0, 0) to (1, 1).

    Attributes:
        fpr, tpr: (k,) rates at "score ≥ threshold", rising.
        thresholds: (k,) falling, the first +∞.
    """

    fpr: Scores
    tpr: Scores
    thresholds: Scores


@dataclass(frozen=True)
class RateAt:
    """A true positive rate at a bound on the false positive rate.

    Attributes:
        fpr: The bound.
        value: Share of members found; None where it may not be shown.
        interval: Clopper–Pearson interval of the share for the threshold that was found, or None. That the
            threshold was found on the same others is not in it.
        reason: Why there is no value; None where there is one.
        members, others: Scores on both sides.
        level: Confidence level.
    """

    fpr: float
    value: float | None
    interval: tuple[float, float] | None
    reason: str | None
    members: int
    others: int
    level: float


@dataclass(frozen=True)
class Balanced:
    """How often a threshold is right, with what guessing would give.

    Attributes:
        balanced: Mean of the rates of members and others that are told rightly; guessing gives 0.5.
        accuracy: Share of all that is told rightly.
        prior: Accuracy of always naming the larger side: an accuracy near it says nothing.
        threshold: Scores at or above it are called members.
        members, others: Scores on both sides.
    """

    balanced: float
    accuracy: float
    prior: float
    threshold: float
    members: int
    others: int


def roc(members: ArrayLike, others: ArrayLike) -> Roc:
    """Return the ROC curve with a point for every distinct score.

    Args:
        members: Scores (n,) of what the model may have been trained on; higher means "member".
        others: Scores (m,) of what it was not.

    Raises:
        InputError: If scores are missing, not finite, or all the same.
    """
    one, two = sides(members, others)
    cuts = np.unique(np.concatenate([one, two]))[::-1]
    hits = len(one) - np.searchsorted(np.sort(one), cuts, side="left")
    false = len(two) - np.searchsorted(np.sort(two), cuts, side="left")
    return Roc(
        np.concatenate([[0.0], false / len(two)]),
        np.concatenate([[0.0], hits / len(one)]),
        np.concatenate([[np.inf], cuts]),
    )


def tpr_at(members: ArrayLike, others: ArrayLike, fpr: float, *, level: float = 0.95) -> RateAt:
    """Return the largest true positive rate whose false positive rate is at most ``fpr``.

    It is hidden where fewer than 10 false positives are to be expected.

    Args:
        members: Scores (n,), higher means "member".
        others: Scores (m,).
        fpr: The bound, in (0, 1).
        level: Confidence level of the interval.

    Raises:
        InputError: As :func:`roc`, or if ``fpr`` or ``level`` is no rate.
    """
    one, two = sides(members, others)
    between(fpr, 0, 1, "false positive rate")
    between(level, 0, 1, "confidence level")
    n, m = len(one), len(two)
    if fpr * m < LEAST_EXPECTED:
        reason = (
            f"Hidden: {m} scores of others give {fpr * m:.3g} false positives at a rate of {fpr:g}, and "
            f"{LEAST_EXPECTED} are needed: at least {int(np.ceil(LEAST_EXPECTED / fpr))} others."
        )
        return RateAt(fpr, None, None, reason, n, m, level)
    curve = roc(one, two)
    value = float(curve.tpr[curve.fpr <= fpr].max())
    return RateAt(fpr, value, clopper_pearson(round(value * n), n, level), None, n, m, level)


def balanced_accuracy(members: ArrayLike, others: ArrayLike, threshold: float) -> Balanced:
    """Return how often "member if score ≥ threshold" is right.

    Args:
        members: Scores (n,), higher means "member".
        others: Scores (m,).
        threshold: Found on other data (:func:`best_threshold`): one found on these flatters itself.

    Raises:
        InputError: If scores are missing or not finite.
    """
    one, two = numbers(members, "the first side"), numbers(others, "the second side")
    n, m = len(one), len(two)
    hits, right = int((one >= threshold).sum()), int((two < threshold).sum())
    return Balanced(
        balanced=(hits / n + right / m) / 2,
        accuracy=(hits + right) / (n + m),
        prior=max(n, m) / (n + m),
        threshold=float(threshold),
        members=n,
        others=m,
    )


def best_threshold(members: ArrayLike, others: ArrayLike) -> float:
    """Return the threshold of the best balanced accuracy; for tuning data, never for those that judge.

    Raises:
        InputError: As :func:`roc`.
    """
    curve = roc(members, others)
    return float(curve.thresholds[int(np.argmax(curve.tpr - curve.fpr))])
