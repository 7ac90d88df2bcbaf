# SPDX-License-Identifier: Apache-2.0
"""ROC curves and derived rates, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score, roc_curve

from expunge.audits.roc import balanced_accuracy, best_threshold, roc, tpr_at
from expunge.audits.scores import auc

FEW = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def split(members: list[int], others: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*members, -9], float), np.array([*others, 9], float)  # never constant


@settings(deadline=None)
@given(FEW, FEW)
def test_the_curve_is_that_of_scikit_learn(members: list[int], others: list[int]) -> None:
    one, two = split(members, others)
    truth = [1] * len(one) + [0] * len(two)
    fpr, tpr, thresholds = roc_curve(truth, np.concatenate([one, two]), drop_intermediate=False)
    found = roc(one, two)
    assert np.allclose(found.fpr, fpr)
    assert np.allclose(found.tpr, tpr)
    assert np.array_equal(found.thresholds, thresholds)
    area = np.trapezoid(found.tpr, found.fpr)
    assert area == pytest.approx(roc_auc_score(truth, np.concatenate([one, two])))
    assert area == pytest.approx(auc(one, two))


@settings(deadline=None)
@given(FEW, FEW, st.randoms())
def test_invariances(members: list[int], others: list[int], random: object) -> None:
    one, two = split(members, others)
    curve = roc(one, two)
    moved = roc(np.exp(one) * 3 + 1, np.exp(two) * 3 + 1)  # a monotone transform changes nothing
    assert np.array_equal(moved.tpr, curve.tpr)
    assert np.array_equal(moved.fpr, curve.fpr)
    shuffled = list(one)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert np.array_equal(roc(shuffled, two).tpr, curve.tpr)  # nor does the order
    mirrored = roc(-two, -one)  # sides swapped and scores turned: mirrored at the other diagonal
    assert np.allclose(np.sort(mirrored.tpr), np.sort(1 - curve.fpr))
    assert np.allclose(np.sort(mirrored.fpr), np.sort(1 - curve.tpr))


@settings(deadline=None)
@given(
    arrays(float, 40, elements=st.integers(0, 9)),
    arrays(float, 60, elements=st.integers(0, 9)),
    st.sampled_from([0.17, 0.2, 0.5, 0.9]),
)
def test_the_rate_at_a_bound_is_the_best_of_all_thresholds(
    one: np.ndarray, two: np.ndarray, fpr: float
) -> None:
    one[0], two[0] = 11.0, -1.0
    found = tpr_at(one, two, fpr)
    slow = max(
        float((one >= cut).mean())
        for cut in [np.inf, *np.unique(np.concatenate([one, two]))]
        if (two >= cut).mean() <= fpr
    )
    assert found.value == slow
    exact = binomtest(round(slow * 40), 40).proportion_ci(0.95, method="exact")
    assert found.interval == pytest.approx((exact.low, exact.high))
    assert (found.members, found.others, found.reason) == (40, 60, None)
    transformed = tpr_at(np.exp(one), np.exp(two), fpr)
    assert transformed.value == found.value


def test_a_rate_that_few_others_cannot_show_is_hidden() -> None:
    generator = np.random.default_rng(0)
    one, two = generator.normal(3, 1, 500), generator.normal(0, 1, 999)
    hidden, shown = tpr_at(one, two, 0.01), tpr_at(one, np.append(two, 0.0), 0.01)
    assert hidden.value is None
    assert hidden.interval is None
    assert hidden.reason is not None
    assert "at least 1000 others" in hidden.reason
    assert shown.value is not None
    assert shown.value > 0.5
    assert shown.interval is not None
    assert shown.interval[0] < shown.value < shown.interval[1]


def test_it_finds_planted_members_and_nothing_in_exchangeable_data() -> None:
    generator = np.random.default_rng(1)
    others = generator.normal(size=2000)
    planted = tpr_at(np.append(generator.normal(size=900), np.full(100, 9.0)), others, 0.01)
    nothing = tpr_at(generator.normal(size=1000), others, 0.01)
    assert planted.interval is not None
    assert planted.interval[0] > 0.08
    assert nothing.interval is not None
    assert nothing.interval[0] < 0.01 < nothing.interval[1]


@settings(deadline=None)
@given(FEW, FEW, st.integers(-3, 3))
def test_balanced_accuracy_is_that_of_scikit_learn(members: list[int], others: list[int], cut: int) -> None:
    one, two = np.array(members, float), np.array(others, float)
    truth = np.array([1] * len(one) + [0] * len(two))
    guess = (np.concatenate([one, two]) >= cut).astype(int)
    found = balanced_accuracy(one, two, cut)
    assert found.balanced == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found.accuracy == pytest.approx(accuracy_score(truth, guess))
    assert found.prior == pytest.approx(max(truth.mean(), 1 - truth.mean()))


def test_an_accuracy_that_is_the_class_prior_is_seen_as_such() -> None:
    found = balanced_accuracy(np.full(900, 1.0), np.full(100, 1.0), 0.5)  # "all are members"
    assert found.accuracy == found.prior == 0.9
    assert found.balanced == 0.5


def test_the_best_threshold_is_the_best_of_all() -> None:
    generator = np.random.default_rng(2)
    one, two = generator.normal(1, 1, 50).round(1), generator.normal(0, 1, 70).round(1)
    best = balanced_accuracy(one, two, best_threshold(one, two)).balanced
    assert best == max(balanced_accuracy(one, two, cut).balanced for cut in np.concatenate([one, two]))
