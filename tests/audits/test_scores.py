# SPDX-License-Identifier: Apache-2.0
"""Statistics of scores against other implementations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from expunge.audits.scores import auc, auc_rows, clopper_pearson, interval, multiplicities, wins

FEW = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@settings(deadline=None)
@given(FEW, FEW)
def test_auc_is_that_of_scikit_learn_also_with_ties(members: list[int], others: list[int]) -> None:
    ours = auc(np.array(members, float), np.array(others, float))
    truth = [1] * len(members) + [0] * len(others)
    assert ours == pytest.approx(roc_auc_score(truth, members + others), abs=1e-12)


@settings(deadline=None)
@given(FEW, FEW, st.randoms())
def test_auc_is_invariant(members: list[int], others: list[int], random: object) -> None:
    a, b = np.array(members, float), np.array(others, float)
    assert auc(np.exp(a) * 3 + 1, np.exp(b) * 3 + 1) == auc(a, b)  # a monotone transform changes nothing
    random.shuffle(members)  # type: ignore[attr-defined]
    assert auc(np.array(members, float), b) == auc(a, b)  # nor does the order
    assert auc(b, a) == pytest.approx(1 - auc(a, b))


def test_rows_are_judged_one_by_one() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 5, (7, 9)).astype(float), generator.integers(0, 5, (7, 4)).astype(float)
    assert auc_rows(a, b).tolist() == [auc(x, y) for x, y in zip(a, b, strict=True)]


def test_wins_average_to_the_auc() -> None:
    generator = np.random.default_rng(5)
    a, b = generator.integers(0, 5, 9).astype(float), generator.integers(0, 5, 4).astype(float)
    assert wins(a, b).mean() == pytest.approx(auc(a, b))


def test_people_are_drawn_whole() -> None:
    groups = np.array([0, 0, 0, 1, 2, 2])
    for counts in multiplicities(groups, 200, np.random.default_rng(1)):
        assert counts[0] == counts[1] == counts[2]
        assert counts[4] == counts[5]
        assert counts[0] + counts[3] + counts[4] == 3  # as many people as there are


def test_one_person_alone_is_drawn_by_pictures() -> None:
    draws = multiplicities(np.zeros(50, int), 20, np.random.default_rng(2))
    assert (draws.sum(axis=1) == 50).all()
    assert len({tuple(d) for d in draws}) == 20


def test_the_bootstrap_covers_a_mean_as_often_as_it_says() -> None:
    generator, hits = np.random.default_rng(3), 0
    for _ in range(300):
        x = generator.normal(size=60)
        means = multiplicities(np.arange(60), 300, generator) @ x / 60
        low, high = interval(means, 0.9)
        hits += low <= 0 <= high
    assert 0.84 < hits / 300 < 0.96


def test_clopper_pearson_in_closed_form() -> None:
    assert clopper_pearson(0, 20, 0.9) == (0.0, pytest.approx(1 - 0.05 ** (1 / 20)))
    assert clopper_pearson(20, 20, 0.9) == (pytest.approx(0.05 ** (1 / 20)), 1.0)
    low, high = clopper_pearson(5, 20, 0.9)
    assert low < 0.25 < high
