# SPDX-License-Identifier: Apache-2.0
"""Equivalence tests: a small p means that two distributions differ by less than a margin.

H0 is that the difference is at least the margin. A difference test that rejects nothing shows no equality.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from expunge.audits.input_checks import between, numbers, sides
from expunge.audits.scores import Scores
from expunge.errors import InputError

GRID = 129


@dataclass(frozen=True)
class KsEquivalence:
    """Whether two distributions are closer than a margin.

    Attributes:
        distance: sup |F̂ − Ĝ|, the two-sample Kolmogorov–Smirnov distance.
        margin: δ.
        p: p-value of H0: sup |F − G| ≥ δ.
        n, m: Numbers of scores.
    """

    distance: float
    margin: float
    p: float
    n: int
    m: int


@dataclass(frozen=True)
class Tost:
    """Whether two means are closer than a margin.

    Attributes:
        difference: Mean of the first side minus that of the second.
        margin: δ.
        p: p-value of H0: |difference of the true means| ≥ δ.
        interval: Confidence interval of the difference at ``level``. H0 is rejected at (1 − level) / 2 if it
            lies within ±δ.
        level: 1 − 2α.
        n, m: Numbers of scores.
    """

    difference: float
    margin: float
    p: float
    interval: tuple[float, float]
    level: float
    n: int
    m: int


def ks_distance(one: ArrayLike, two: ArrayLike) -> float:
    """Return sup |F̂ − Ĝ| of two samples (n,) and (m,).

    Raises:
        InputError: If scores are missing or not finite.
    """
    a, b = np.sort(numbers(one, "the first side")), np.sort(numbers(two, "the second side"))
    cuts = np.concatenate([a, b])
    below = np.searchsorted(a, cuts, side="right") / len(a), np.searchsorted(b, cuts, side="right") / len(b)
    return float(np.abs(below[0] - below[1]).max())


def ks_equivalence(one: ArrayLike, two: ArrayLike, margin: float) -> KsEquivalence:
    """Test H0: sup |F − G| ≥ δ. For independent scores the size is at most α for all F, G, n and m.

    H0 is the union over points x of |F(x) − G(x)| ≥ δ, so it is rejected if it is rejected at every point
    (intersection–union principle: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling",
    Technometrics 24). At a point, the counts below it are binomial, and the test is the exact unconditional
    test of two proportions (Chan 1998, "Exact tests of equivalence and efficacy with a non-zero lower bound",
    Statistics in Medicine 17), with the difference of proportions as its statistic. The largest p over all
    points is that of the largest distance:

        p = max over π in [0, 1 − δ] of Pr( X/n − Y/m ≤ D ),  X ~ Bin(n, π + δ), Y ~ Bin(m, π).

    Args:
        one: Scores (n,) of one side.
        two: Scores (m,).
        margin: δ, in (0, 1), declared before any result is seen.

    Raises:
        InputError: If scores are missing, not finite or constant, or the margin is outside (0, 1).
    """
    a, b = sides(one, two)
    between(margin, 0, 1, "margin")
    distance = ks_distance(a, b)
    return KsEquivalence(distance, margin, _boundary(distance, len(a), len(b), margin), len(a), len(b))


def ks_upper_bound(one: ArrayLike, two: ArrayLike, *, alpha: float = 0.05) -> float:
    """Return the smallest margin (to 10⁻⁴) at which :func:`ks_equivalence` rejects at level α.

    Raises:
        InputError: As :func:`ks_equivalence`.
    """
    a, b = sides(one, two)
    between(alpha, 0, 0.5, "level alpha")
    distance = ks_distance(a, b)
    low, high = distance, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if _boundary(distance, len(a), len(b), middle) <= alpha else (middle, high)
    return high


@lru_cache(maxsize=4096)  # the distance takes few values
def _boundary(distance: float, n: int, m: int, margin: float) -> float:
    """Return the largest probability at the boundary of H0 of a difference as small as the observed one."""
    from scipy.optimize import minimize_scalar

    grid = np.linspace(0, 1 - margin, GRID)
    values = _at_most(distance, n, m, grid, margin)
    best = int(values.argmax())
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    finer = minimize_scalar(
        lambda share: -float(_at_most(distance, n, m, np.array([share]), margin)[0]),
        bounds=(low, high),
        method="bounded",
    )
    return float(min(1.0, max(values[best], -finer.fun)))


def _at_most(distance: float, n: int, m: int, shares: Scores, margin: float) -> Scores:
    """Return Pr(X/n − Y/m ≤ distance) for every π (k,)."""
    from scipy.stats import binom

    counts = np.arange(m + 1)
    # The tolerance keeps ties in spite of rounding: the shares are ratios.
    most = np.floor(n * (distance + counts / m) + 1e-9)
    mass = binom.pmf(counts[:, None], m, shares[None])
    below = binom.cdf(most[:, None], n, np.minimum(shares + margin, 1.0)[None])
    return np.asarray((mass * below).sum(axis=0), dtype=np.float64)


def tost(one: ArrayLike, two: ArrayLike, margin: float, *, level: float = 0.90) -> Tost:
    """Test H0: |μ₁ − μ₂| ≥ δ by two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15).

    The variances may differ (Welch's test).

    Args:
        one: Scores (n,), n ≥ 2.
        two: Scores (m,), m ≥ 2.
        margin: δ > 0, in the unit of the scores, declared before any result is seen.
        level: Confidence level of the interval; 0.90 corresponds to α = 0.05.

    Raises:
        InputError: If a side has fewer than two scores, a score is not finite, or both sides are constant.
    """
    from scipy.stats import t

    a, b = numbers(one, "the first side", least=2), numbers(two, "the second side", least=2)
    between(margin, 0, np.inf, "margin")
    between(level, 0, 1, "confidence level")
    parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    error = float(np.sqrt(sum(parts)))
    if error == 0:
        raise InputError(
            "The scores are constant on both sides.",
            "A test of means needs variance.",
            "Check whether the models are damaged, or choose another score.",
        )
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    difference = float(a.mean() - b.mean())
    above = t.sf((difference + margin) / error, freedom)
    below = t.cdf((difference - margin) / error, freedom)
    reach = float(t.ppf((1 + level) / 2, freedom)) * error
    return Tost(
        difference,
        margin,
        float(max(above, below)),
        (difference - reach, difference + reach),
        level,
        len(a),
        len(b),
    )
