# SPDX-License-Identifier: Apache-2.0
"""ROC curve of an attack, and rates derived from it.

The true positive rate at a low false positive rate shows whether *some* members are found with certainty,
which an average hides (Carlini et al. 2022, "Membership Inference Attacks From First Principles").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.audits.input_checks import between, numbers, sides
from expunge.audits.scores import Scores, clopper_pearson

LEAST_EXPECTED = 10
"""Minimum of expected false positives; with fewer, the threshold is unreliable."""


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
        value: Share of members found; None: hidden.
        interval: Clopper–Pearson interval of the share at the chosen threshold, or None. It does not include
            the uncertainty of the threshold.
        reason: Why the value is hidden; None: it is not.
        members, others: Numbers of scores.
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
    """Accuracy of a threshold, with its baseline.

    Attributes:
        balanced: Balanced accuracy: mean of the true positive and true negative rates; guessing gives 0.5.
        accuracy: Share of correct decisions.
        prior: Accuracy of always choosing the larger side, the baseline of ``accuracy``.
        threshold: Scores at or above it are classified as members.
        members, others: Numbers of scores.
    """

    balanced: float
    accuracy: float
    prior: float
    threshold: float
    members: int
    others: int


def roc(members: ArrayLike, others: ArrayLike) -> Roc:
    """Return the ROC curve, with a point for each distinct score.

    Args:
        members: Scores (n,) of samples that the model may have been trained on; higher means "member".
        others: Scores (m,) of samples that it was not trained on.

    Raises:
        InputError: If scores are missing, not finite, or constant.
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

    It is hidden if fewer than 10 false positives are expected.

    Args:
        members: Scores (n,), higher means "member".
        others: Scores (m,).
        fpr: The bound, in (0, 1).
        level: Confidence level of the interval.

    Raises:
        InputError: As :func:`roc`, or if ``fpr`` or ``level`` is outside (0, 1).
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
    """Return the accuracy of the rule "member if score ≥ threshold".

    Args:
        members: Scores (n,), higher means "member".
        others: Scores (m,).
        threshold: Chosen on other data (:func:`best_threshold`); on the same data the result is biased.

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
    """Return the threshold with the best balanced accuracy; for tuning data only, not for a verdict.

    Raises:
        InputError: As :func:`roc`.
    """
    curve = roc(members, others)
    return float(curve.thresholds[int(np.argmax(curve.tpr - curve.fpr))])
