# SPDX-License-Identifier: Apache-2.0
"""Statistics of scores: pure functions over arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator], tuple[Scores, ...]]


def auc(members: Scores, others: Scores) -> float:
    """Return the AUC: the probability that a member's score is above that of another sample, ties counting ½.

    It is computed from the Mann–Whitney statistic.

    Args:
        members: Scores (n,) of samples that the model may have been trained on; higher means "member".
        others: Scores (m,) of samples that it was not trained on.
    """
    return float(auc_rows(members[None], others[None])[0])


def auc_rows(members: Scores, others: Scores) -> Scores:
    """Return :func:`auc` for each row: ``members`` (k, n) against ``others`` (k, m) gives (k,)."""
    n, m = members.shape[1], others.shape[1]
    joined = np.concatenate([members, others], axis=1)
    order = np.argsort(joined, axis=1, kind="stable")
    ordered = np.take_along_axis(joined, order, axis=1)
    # Mid-ranks: tied scores share the mean of their ranks.
    first = np.concatenate([np.ones((len(joined), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    positions = np.arange(1, n + m + 1, dtype=np.float64)[None].repeat(len(joined), axis=0)
    begin = np.maximum.accumulate(np.where(first, positions, 0.0), axis=1)
    last = np.concatenate([first[:, 1:], np.ones((len(joined), 1), bool)], axis=1)
    end = np.minimum.accumulate(np.where(last, positions, np.inf)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty_like(joined)
    np.put_along_axis(ranks, order, (begin + end) / 2, axis=1)
    return np.asarray((ranks[:, :n].sum(axis=1) - n * (n + 1) / 2) / (n * m), dtype=np.float64)


def log_odds(losses: Scores, smallest: float) -> Scores:
    """Return log(p / (1 − p)) of losses −log p, of any shape; losses are clipped at ``smallest``."""
    kept = np.maximum(losses, smallest)
    return np.asarray(-kept - np.log(-np.expm1(-kept)), dtype=np.float64)


def wins(members: Scores, others: Scores) -> Scores:
    """Return (n, m): 1 if the member's score is higher, ½ if they tie; the mean is the AUC."""
    difference = members[:, None] - others[None]
    return np.asarray((difference > 0) + 0.5 * (difference == 0), dtype=np.float64)


def multiplicities(groups: NDArray[np.int64], draws: int, generator: np.random.Generator) -> Scores:
    """Return the multiplicity of each score in each bootstrap sample (draws, n), drawn by groups (people).

    If there is only one group, its members are drawn instead; the result then holds for that group only.

    Args:
        groups: Group number of each score (n,).
        draws: Number of bootstrap samples.
        generator: Random generator.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        inverse = np.arange(len(groups))
    count = int(inverse.max()) + 1
    # Counting uniform draws gives the multinomial distribution and is ten times as fast.
    drawn = generator.integers(0, count, (draws, count)) + count * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)
    return np.asarray(counts[:, inverse], dtype=np.float64)


def interval(values: Scores, level: float) -> tuple[float, float]:
    """Return the central percentile interval that contains the share ``level`` of bootstrap values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clopper_pearson(hits: int, trials: int, level: float) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a rate (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high
