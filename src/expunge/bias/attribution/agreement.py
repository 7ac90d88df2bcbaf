# SPDX-License-Identifier: Apache-2.0
"""Agreement of rankings: rank correlations and top-N overlap, with intervals; scores of groups of samples.

Spearman's ρ and Kendall's τ_b account for ties. The top-N overlap is the share of the N highest items that
both rankings have in common; by chance it is N/n. Intervals are percentile bootstraps over the ranked items
(samples, subjects, contributors).

Reference: Kendall, *A New Measure of Rank Correlation*, Biometrika 1938; Efron and Tibshirani, *An
Introduction to the Bootstrap*, 1993, section 13.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from expunge.bias.attribution.gradients import Floats
from expunge.errors import InputError

RESAMPLES = 200
LEVEL = 0.95
MIN_ITEMS = 5  # minimum of items for a correlation


@dataclass(frozen=True)
class Agreement:
    """Agreement of two rankings; correlations and intervals are None below five items.

    Attributes:
        n: Number of items that both rank.
        spearman, kendall: Rank correlations.
        spearman_interval, kendall_interval: 95 % intervals.
        overlap: Share of the top N that both have in common.
        overlap_by_chance: N/n.
        top: N.
    """

    n: int
    spearman: float | None
    spearman_interval: tuple[float, float] | None
    kendall: float | None
    kendall_interval: tuple[float, float] | None
    overlap: float
    overlap_by_chance: float
    top: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def agreement(a: Floats, b: Floats, top: int, seed: int = 0) -> Agreement:
    """Return the agreement of two scores of the same items; items with a NaN in either are left out.

    Args:
        a, b: (n,), higher ranks first.
        top: N; at most n.
        seed: Seed of the resampling.

    Raises:
        InputError: If the lengths differ, or no item has both scores.
    """
    if a.shape != b.shape:
        raise InputError(
            "The two rankings are not of the same items.",
            f"They have {len(a)} and {len(b)}.",
            "Compare rankings of the same items.",
        )
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    n = len(a)
    if not n:
        raise InputError(
            "There is nothing to compare.", "No item has a score in both.", "Compare other rankings."
        )
    top = max(1, min(top, n))
    overlap = len(set(best(a, top).tolist()) & set(best(b, top).tolist())) / top
    if n < MIN_ITEMS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Agreement(n, None, None, None, None, overlap, top / n, top)
    rng = np.random.default_rng(seed)
    drawn = [_correlations(a[rows], b[rows]) for rows in rng.integers(0, n, (RESAMPLES, n))]
    drawn = [pair for pair in drawn if np.isfinite(pair).all()]
    rho, tau = _correlations(a, b)
    return Agreement(
        n,
        rho,
        _interval([pair[0] for pair in drawn]),
        tau,
        _interval([pair[1] for pair in drawn]),
        overlap,
        top / n,
        top,
    )


def agreements(scores: Mapping[str, Floats], top: int, seed: int = 0) -> dict[str, Agreement]:
    """Return the agreement of each pair of rankings, by ``first/second``."""
    return {f"{a}/{b}": agreement(scores[a], scores[b], top, seed) for a, b in combinations(scores, 2)}


def best(scores: Floats, top: int) -> Any:
    """Return the indices of the highest scores, highest first; ties in their order, without NaN.

    Args:
        scores: (n,).
        top: Maximum number of indices.
    """
    order = np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    return order[np.isfinite(scores[order])][:top]


def aggregate(scores: Floats, keys: Sequence[Sequence[str]], how: str = "sum") -> tuple[list[str], Floats]:
    """Return scores of groups of samples: their names in order of appearance, and (m,) scores.

    The harm of a group is the sum over its samples: to first order, the effects of removing single samples
    add up. Doubts about labels are averaged, so that they do not grow with the number of samples.

    Args:
        scores: (n,) of samples; NaN is left out.
        keys: For each sample the groups that it belongs to; none or several.
        how: ``sum`` or ``mean``.
    """
    numbers: dict[str, int] = {}
    places, rows = [], []
    for row, names in enumerate(keys):
        for name in names:
            places.append(numbers.setdefault(name, len(numbers)))
            rows.append(row)
    values = scores[rows] if rows else np.zeros(0)
    known = np.isfinite(values)
    at = np.array(places, dtype=np.int64)[known]
    sums = np.bincount(at, values[known], minlength=len(numbers))
    counts = np.bincount(at, minlength=len(numbers))
    found = sums / np.maximum(counts, 1) if how == "mean" else sums
    return list(numbers), np.where(counts > 0, found, np.nan)


def _correlations(a: Floats, b: Floats) -> tuple[float, float]:
    from scipy.stats import kendalltau, rankdata

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan")
    rho = np.corrcoef(rankdata(a), rankdata(b))[0, 1]
    return float(rho), float(kendalltau(a, b).statistic)


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
