# SPDX-License-Identifier: Apache-2.0
"""Forgetting quality as in the NeurIPS 2023 competition on unlearning.

Triantafillou et al. 2024, "Are we making progress in unlearning? Findings from the first NeurIPS unlearning
competition"; the organisers' "Evaluation for the NeurIPS Machine Unlearning Competition"
(2023). For each forgotten example, attacks distinguish retrained from unlearned models by the example's
score; the best attack gives ε:

    ε = max over attacks of max( log(1 − δ − FPR) − log FNR, log(1 − δ − FNR) − log FPR )

ε is ∞ if an attack makes no error. Attacks with exactly one rate of 0 are left out, since their ε would be
infinite for lack of models. H = 2 / 2ⁿ, where n ∈ 1..13 is the number of ε's bin of width ½; quality is the
mean of H.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.audits.input_checks import between, numbers, same_columns, varied
from expunge.audits.scores import Scores, clopper_pearson
from expunge.errors import InputError

DELTA = 1e-5
WIDTH = 0.5
BINS = 13


@dataclass(frozen=True)
class ForgettingScore:
    """Forgetting quality.

    Attributes:
        quality: Mean of H, in 2⁻¹²..1; higher is better. Even retrains do not reach 1: compare with the null.
        epsilon: (n,) by example.
        retrained, unlearned: Numbers of models.
    """

    quality: float
    epsilon: Scores
    retrained: int
    unlearned: int


def forgetting_score(retrained: ArrayLike, unlearned: ArrayLike, *, delta: float = DELTA) -> ForgettingScore:
    """Return the forgetting quality over examples.

    Args:
        retrained: Scores (N, n) of models that never saw the examples; N ≥ 2.
        unlearned: Scores (M, n); M ≥ 2.
        delta: δ.

    Raises:
        InputError: If shapes do not fit, or scores are missing, not finite or constant.
    """
    p = numbers(retrained, "the retrained models", dimensions=2, least=2)
    q = numbers(unlearned, "the unlearned models", dimensions=2, least=2)
    same_columns([p, q], "retrained and unlearned models")
    varied(np.concatenate([p.ravel(), q.ravel()]), "all models")
    values = epsilons(p, q, delta=delta)
    return ForgettingScore(float(quality_of(values).mean()), values, len(p), len(q))


def epsilons(retrained: Scores, unlearned: Scores, *, delta: float = DELTA) -> Scores:
    """Return ε (n,) of the best attack with one or two thresholds on each example."""
    if not 0 <= delta < 1:
        raise InputError(f"δ is {delta:g}.", "It must be at least 0 and below 1.", "Correct it.")
    return np.array(
        [_epsilon(retrained[:, i], unlearned[:, i], delta) for i in range(retrained.shape[1])],
        dtype=np.float64,
    )


def quality_of(epsilon: Scores) -> Scores:
    """Return H = 2 / 2ⁿ of each ε."""
    capped = np.minimum(np.maximum(epsilon, 0.0), WIDTH * BINS)
    return np.asarray(2.0 ** (1 - np.clip(np.floor(capped / WIDTH) + 1, 1, BINS)), dtype=np.float64)


def provable_epsilon(
    false_positives: int, negatives: int, false_negatives: int, positives: int, *, level: float = 0.95
) -> float:
    """Return a lower bound on ε from the errors of one attack, for δ = 0.

    It uses one-sided Clopper–Pearson bounds of the error rates. Each holds with probability ``level``, both
    together with at least 2·level − 1. The attack must be fixed on other models. 64 models on each side
    without any error prove ε ≥ 3.0 and no more, although the formula above gives ∞.

    Args:
        false_positives: Number of errors among ``negatives``.
        negatives: Number of models on one side, at least 1.
        false_negatives: Number of errors among ``positives``.
        positives: Number of models on the other side, at least 1.
        level: Confidence level of each bound.

    Raises:
        InputError: If there are more errors than models.
    """
    counted = 0 <= false_positives <= negatives and 0 <= false_negatives <= positives
    if min(negatives, positives) < 1 or not counted:
        raise InputError(
            "The errors of the attack do not fit the number of models.",
            f"{false_positives} of {negatives} and {false_negatives} of {positives}.",
            "Check the counts.",
        )
    between(level, 0.5, 1, "confidence level")
    fpr = clopper_pearson(false_positives, negatives, 2 * level - 1)[1]
    fnr = clopper_pearson(false_negatives, positives, 2 * level - 1)[1]
    return max(0.0, _log_ratio(1 - fpr, fnr), _log_ratio(1 - fnr, fpr))


def _log_ratio(one: float, two: float) -> float:
    return float(np.log(one / two)) if one > 0 and two > 0 else 0.0


def _epsilon(retrained: Scores, unlearned: Scores, delta: float) -> float:
    """Return ε of one example; an attack guesses "unlearned" inside a range of scores, or outside it."""
    n, m = len(retrained), len(unlearned)
    cuts = np.unique(np.concatenate([retrained, unlearned]))
    below_r = np.concatenate([[0], np.searchsorted(np.sort(retrained), cuts, side="right")])
    below_u = np.concatenate([[0], np.searchsorted(np.sort(unlearned), cuts, side="right")])
    low, high = np.triu_indices(len(below_r), k=1)
    inside_r, inside_u = below_r[high] - below_r[low], below_u[high] - below_u[low]
    false_positives = np.concatenate([inside_r, n - inside_r])
    false_negatives = np.concatenate([m - inside_u, inside_u])
    if ((false_positives == 0) & (false_negatives == 0)).any():
        return float("inf")
    kept = (false_positives > 0) & (false_negatives > 0)
    fpr, fnr = false_positives[kept] / n, false_negatives[kept] / m
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.concatenate([np.log(1 - delta - fpr) - np.log(fnr), np.log(1 - delta - fnr) - np.log(fpr)])
    return float(np.nanmax(found, initial=0.0))
