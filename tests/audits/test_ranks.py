# SPDX-License-Identifier: Apache-2.0
"""Rank and permutation tests: exact, uniform under the null, and equal to scipy's where it has them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from scipy.stats import permutation_test as scipys

from expunge.audits.ranks import ENUMERATED, holm, permutation_test, rank_test

SIDES = ("two-sided", "greater", "less")


def test_the_smallest_p_is_one_in_all() -> None:
    references = np.arange(19.0)
    for side, value in (("two-sided", 99.0), ("two-sided", -99.0), ("greater", 99.0), ("less", -99.0)):
        found = rank_test(value, references, side=side)  # type: ignore[arg-type]
        assert found.p == found.least == 1 / 20
    assert rank_test(99.0, references, side="less").p == 1.0
    assert rank_test(9.0, references).p > 0.9
    assert (rank_test(9.5, references).above, rank_test(9.5, references).below) == (9, 10)
    assert rank_test(3.0, np.full(19, 3.0)).p == 1.0  # all the same: nothing found


@pytest.mark.parametrize("side", SIDES)
@settings(deadline=None)
@given(values=st.lists(st.integers(-5, 5), min_size=2, max_size=25))
def test_it_is_valid_for_each_model_as_candidate(side: Any, values: list[int]) -> None:
    """Exact: let each in turn be the candidate; at most a share α of them has p ≤ α."""
    everything = np.array(values, float)
    found = np.array([rank_test(v, np.delete(everything, i), side=side).p for i, v in enumerate(everything)])
    for alpha in np.unique(found):
        assert (found <= alpha).mean() <= alpha + 1e-12
    shifted = [
        rank_test(v * 3 + 7, np.delete(everything, i) * 3 + 7, side=side).p for i, v in enumerate(values)
    ]
    assert shifted == found.tolist()


def test_one_sided_ranks_do_not_depend_on_the_scale() -> None:
    references = np.random.default_rng(0).normal(size=30)
    for side in ("greater", "less"):
        assert (
            rank_test(0.4, references, side=side).p == rank_test(np.exp(0.4), np.exp(references), side=side).p
        )
    assert rank_test(0.4, references, side="greater").p == rank_test(-0.4, -references, side="less").p
    assert rank_test(0.4, references).p == rank_test(-0.4, -references).p


@pytest.mark.parametrize("side", SIDES)
def test_p_is_uniform_under_the_null(side: Any) -> None:
    generator = np.random.default_rng(1)
    found = np.array([rank_test(v[0], v[1:], side=side).p for v in generator.normal(size=(4000, 20))])
    for alpha in (0.05, 0.1, 0.25, 0.5, 0.75):
        hits = int((found <= alpha + 1e-9).sum())
        assert binom.ppf(5e-4, 4000, alpha) <= hits <= binom.ppf(1 - 5e-4, 4000, alpha)


@pytest.mark.parametrize("side", SIDES)
@settings(deadline=None, max_examples=25)
@given(
    one=st.lists(st.integers(-5, 5), min_size=2, max_size=5),
    two=st.lists(st.integers(-5, 5), min_size=2, max_size=6),
)
def test_permutations_are_all_looked_at(side: Any, one: list[int], two: list[int]) -> None:
    a, b = np.array(one, float), np.array(two, float)
    found = permutation_test(a, b, side=side)
    joined = np.concatenate([a, b])
    observed, hits, total = a.mean() - b.mean(), 0, 0
    for chosen in combinations(range(len(joined)), len(a)):
        other = np.delete(joined, list(chosen)).mean()
        difference = joined[list(chosen)].mean() - other
        extreme, bound = {
            "greater": (difference, observed),
            "less": (-difference, -observed),
            "two-sided": (abs(difference), abs(observed)),
        }[side]
        hits, total = hits + (extreme >= bound - 1e-9), total + 1
    assert found.exact
    assert found.p == pytest.approx(hits / total)
    assert found.p >= found.least
    assert found.difference == pytest.approx(observed)
    assert permutation_test(a * 2 + 1, b * 2 + 1, side=side).p == pytest.approx(found.p)
    assert permutation_test(a[::-1], b, side=side).p == pytest.approx(found.p)


def test_permutations_are_scipys() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(0.8, 1, 5), generator.normal(0, 1, 9)
    for side in ("greater", "less"):
        truth = scipys((a, b), lambda x, y: x.mean() - y.mean(), alternative=side, n_resamples=np.inf)
        assert permutation_test(a, b, side=side).p == pytest.approx(truth.pvalue)


def test_where_there_are_too_many_some_are_drawn() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.normal(3, 1, 20), generator.normal(0, 1, 30)
    found = permutation_test(a, b, generator=np.random.default_rng(4))
    assert not found.exact
    assert found.p == found.least == 1 / ENUMERATED
    assert permutation_test(a, b, generator=np.random.default_rng(4)).p == found.p
    nothing = permutation_test(b[:15], b[15:], generator=generator)
    assert nothing.p > 0.05


def test_permutation_p_is_uniform_under_the_null_and_small_for_planted_groups() -> None:
    generator = np.random.default_rng(5)
    found = np.array([permutation_test(v[:3], v[3:]).p for v in generator.normal(size=(600, 12))])
    for alpha in (0.05, 0.2, 0.5):
        hits = int((found <= alpha).sum())
        assert binom.ppf(5e-4, 600, alpha) - 3 <= hits <= binom.ppf(1 - 5e-4, 600, alpha)
    planted = [permutation_test(v[:3] + 3, v[3:], side="greater").p for v in generator.normal(size=(50, 12))]
    assert np.mean(np.array(planted) <= 0.05) > 0.9


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(values: list[float]) -> None:
    """The adjusted p of a hypothesis is the largest Bonferroni p of all intersections that hold it."""
    found = holm(values)
    indices = range(len(values))
    subsets = [set(c) for size in range(1, len(values) + 1) for c in combinations(indices, size)]
    for i in indices:
        slow = max(min(1.0, len(s) * min(values[j] for j in s)) for s in subsets if i in s)
        assert found[i] == pytest.approx(slow)


def test_holm_keeps_the_familywise_error() -> None:
    generator = np.random.default_rng(6)
    wrong = [(holm(generator.random(5)) <= 0.05).any() for _ in range(2000)]
    assert sum(wrong) <= binom.ppf(0.999, 2000, 0.05)
    assert (holm([1e-6, 0.9, 0.8]) <= 0.05).tolist() == [True, False, False]
