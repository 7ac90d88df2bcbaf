# SPDX-License-Identifier: Apache-2.0
"""Tests that can say "the same": a small p means that two samples differ by less than a margin.

A difference test that finds nothing says nothing; here H0 is that the difference is at least the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from expunge.audit.checks import between, numbers, sides
from expunge.audit.scores import Scores
from expunge.errors import InputError

GRID = 129


@dataclass(frozen=True)
class KsEquivalence:
    """Whether two distributions are closer than a margin.

    Attributes:
        distance: sup |F̂ − Ĝ|, the two-sample Kolmogorov–Smirnov distance.
        margin: δ.
        p: Of H0: sup |F − G| ≥ δ.
        n, m: Scores on both sides.
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
        p: Of H0: |difference of the true means| ≥ δ.
        interval: Of the difference, at ``level``: H0 is rejected at (1 − level) / 2 if it lies within ±δ.
        level: 1 − 2α.
        n, m: Scores on both sides.
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
    """Test H0: sup |F − G| ≥ δ. For independent scores its size is at most α, whatever F, G, n and m.

    H0 is the union over places x of |F(x) − G(x)| ≥ δ, so it is rejected if that is at every place (the
    intersection–union principle: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling",
    Technometrics 24). At a place, the counts below it are binomial, and the test is the exact unconditional
    one of two proportions (Chan 1998, "Exact tests of equivalence and efficacy with a non-zero lower bound",
    Statistics in Medicine 17), with the difference of shares as its statistic. The largest p over places is
    that of the largest distance:

        p = max over π in [0, 1 − δ] of Pr( X/n − Y/m ≤ D ),  X ~ Bin(n, π + δ), Y ~ Bin(m, π).

    Args:
        one: Scores (n,) of one side.
        two: Scores (m,).
        margin: δ, in (0, 1), declared before anything was looked at.

    Raises:
        InputError: If scores are missing, not finite or all the same, or the margin is no distance.
    """
    a, b = sides(one, two)
    between(margin, 0, 1, "margin")
    distance = ks_distance(a, b)
    return KsEquivalence(distance, margin, _boundary(distance, len(a), len(b), margin), len(a), len(b))


def ks_upper_bound(one: ArrayLike, two: ArrayLike, *, alpha: float = 0.05) -> float:
    """Return the smallest margin (to 10⁻⁴) that :func:`ks_equivalence` confirms at α: an upper bound.

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


@lru_cache(maxsize=4096)  # the data speak through the distance alone, which has few values
def _boundary(distance: float, n: int, m: int, margin: float) -> float:
    """The largest probability, at the boundary of H0, of a difference as small as the one seen."""
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
    # A hair more than the distance: shares are ratios, and a tie must count as a tie.
    most = np.floor(n * (distance + counts / m) + 1e-9)
    mass = binom.pmf(counts[:, None], m, shares[None])
    below = binom.cdf(most[:, None], n, np.minimum(shares + margin, 1.0)[None])
    return np.asarray((mass * below).sum(axis=0), dtype=np.float64)


def tost(one: ArrayLike, two: ArrayLike, margin: float, *, level: float = 0.90) -> Tost:
    """Test H0: |μ₁ − μ₂| ≥ δ by two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15).

    The variances may differ: each test is Welch's.

    Args:
        one: Scores (n,), n ≥ 2.
        two: Scores (m,), m ≥ 2.
        margin: δ > 0, in the unit of the scores, declared beforehand.
        level: Of the interval; 0.90 goes with α = 0.05.

    Raises:
        InputError: If there are fewer than two scores on a side, one is not finite, or none varies.
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
            "Without spread no test of means can be made.",
            "Look at the models, which may be destroyed, or choose another score.",
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
