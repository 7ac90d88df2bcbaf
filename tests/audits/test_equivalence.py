# SPDX-License-Identifier: Apache-2.0
"""Equivalence tests against scipy, against brute force, and by simulation at the edge of H0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, ks_2samp, ttest_ind

from expunge.audits.equivalence import ks_distance, ks_equivalence, ks_upper_bound, tost

FEW = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@settings(deadline=None)
@given(FEW, FEW, st.randoms())
def test_the_distance_is_scipys(one: list[int], two: list[int], random: Any) -> None:
    a, b = np.array(one, float), np.array(two, float)
    found = ks_distance(a, b)
    assert found == pytest.approx(ks_2samp(a, b).statistic)
    assert ks_distance(np.exp(a), np.exp(b)) == found
    for mirrored in (ks_distance(b, a), ks_distance(-a, -b)):
        assert mirrored == pytest.approx(found)
    random.shuffle(one)
    assert ks_distance(one, b) == found


def brute(distance: float, n: int, m: int, margin: float) -> float:
    """The p-value by its definition: all counts, and a fine grid of shares."""
    worst = 0.0
    for share in np.linspace(0, 1 - margin, 1001):
        x, y = binom.pmf(range(n + 1), n, share + margin), binom.pmf(range(m + 1), m, share)
        inside = [[i / n - j / m <= distance + 1e-9 for j in range(m + 1)] for i in range(n + 1)]
        worst = max(worst, float(x @ np.array(inside) @ y))
    return worst


@pytest.mark.parametrize(("n", "m", "margin"), [(7, 7, 0.6), (12, 5, 0.5), (9, 20, 0.3)])
def test_the_p_value_is_its_definition(n: int, m: int, margin: float) -> None:
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=n), generator.normal(size=m)
    found = ks_equivalence(a, b, margin)
    assert found.p == pytest.approx(brute(found.distance, n, m, margin), abs=1e-4)
    assert found.p >= brute(found.distance, n, m, margin) - 1e-9
    swapped = ks_equivalence(b, a, margin)
    assert swapped.p == pytest.approx(found.p, abs=1e-6)
    moved = ks_equivalence(np.exp(a), np.exp(b), margin)
    assert moved.p == found.p


def pair(kind: str, n: int, m: int, margin: float, generator: Any) -> tuple[Any, Any]:
    """Two samples whose true distance is the margin: all of it at one place, or spread over many."""
    if kind == "shifted":  # uniforms, apart by the margin: reached over a whole stretch
        return generator.random(n), generator.random(m) + margin
    if kind == "contaminated":  # a share of one side is far out: reached at one place, at the very end
        a = generator.random(n)
        return np.where(generator.random(n) < margin, a + 5, a), generator.random(m)
    low, high = (1 - margin) / 2, (1 + margin) / 2  # two values: where the variance is greatest
    return (generator.random(n) < low).astype(float), (generator.random(m) < high).astype(float)


@pytest.mark.parametrize("kind", ["shifted", "contaminated", "two values"])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (40, 150)])
def test_its_size_is_at_most_alpha_at_the_margin(kind: str, n: int, m: int) -> None:
    generator, runs, rejected = np.random.default_rng(7), 400, 0
    for _ in range(runs):
        rejected += ks_equivalence(*pair(kind, n, m, 0.3, generator), 0.3).p <= 0.05
    assert rejected <= binom.ppf(0.999, runs, 0.05)
    if kind == "two values":  # the worst case: there the size is used up
        assert rejected >= binom.ppf(0.001, runs, 0.02)


def test_it_says_the_same_of_equals_and_never_of_few() -> None:
    generator = np.random.default_rng(8)
    enough = [
        ks_equivalence(generator.normal(size=400), generator.normal(size=400), 0.2).p for _ in range(40)
    ]
    assert np.mean(np.array(enough) <= 0.05) > 0.9
    few = [ks_equivalence(generator.normal(size=9), generator.normal(size=9), 0.2).p for _ in range(40)]
    assert min(few) > 0.05, "not finding a difference in few scores is no equivalence"
    planted = ks_equivalence(generator.normal(size=400), generator.normal(1, 1, 400), 0.2)
    assert planted.p > 0.99


@pytest.mark.parametrize(("margin", "n"), [(0.15, 450), (0.2, 250), (0.25, 150), (0.3, 110)])
def test_its_power_is_as_the_documents_say(margin: float, n: int) -> None:
    generator = np.random.default_rng(11)
    found = [ks_equivalence(generator.random(n), generator.random(n), margin).p <= 0.025 for _ in range(300)]
    assert 0.85 < np.mean(found) < 0.96


def test_the_upper_bound_inverts_the_test_and_covers() -> None:
    generator, below = np.random.default_rng(9), 0
    for _ in range(150):
        a, b = pair("shifted", 50, 50, 0.3, generator)
        below += ks_upper_bound(a, b) < 0.3
    assert below <= binom.ppf(0.999, 150, 0.05)
    bound = ks_upper_bound(a, b)
    assert ks_equivalence(a, b, bound).p <= 0.05
    assert ks_equivalence(a, b, bound - 2e-4).p > 0.05
    assert bound > ks_distance(a, b)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 20), m=st.integers(2, 20), margin=st.floats(0.05, 3))
def test_tost_is_two_of_scipys_tests(seed: int, n: int, m: int, margin: float) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(0, 1, n), generator.normal(0.2, 2, m)
    found = tost(a, b, margin)
    above = ttest_ind(a + margin, b, equal_var=False, alternative="greater")
    below = ttest_ind(a - margin, b, equal_var=False, alternative="less")
    assert found.p == pytest.approx(max(above.pvalue, below.pvalue))
    truth = ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert found.interval == pytest.approx((truth.low, truth.high))
    assert (found.p <= 0.05) == (-margin <= found.interval[0] and found.interval[1] <= margin)
    mirrored = tost(b, a, margin)
    assert mirrored.p == pytest.approx(found.p)
    assert mirrored.difference == pytest.approx(-found.difference)
    assert tost(a * 7, b * 7, margin * 7).p == pytest.approx(found.p)


def test_tosts_size_is_alpha_at_the_margin() -> None:
    generator = np.random.default_rng(10)
    rejected = [
        tost(generator.normal(0, 1, 40), generator.normal(0.8, 2, 70), 0.8).p <= 0.05 for _ in range(1500)
    ]
    assert binom.ppf(0.001, 1500, 0.05) <= sum(rejected) <= binom.ppf(0.999, 1500, 0.05)
