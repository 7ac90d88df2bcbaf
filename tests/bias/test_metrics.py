# SPDX-License-Identifier: Apache-2.0
"""Figures of classifiers by group: against fairlearn and scikit-learn, and under what must not matter."""

from __future__ import annotations

import fairlearn.metrics as fair
import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.calibration import calibration_curve

from expunge.bias.metrics import classification
from expunge.bias.metrics.calibration import calibration_error


def drawn(
    seed: int, classes: int, groups: int = 3, n: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth, group = rng.integers(0, classes, n), rng.integers(0, groups, n)
    right = rng.random(n) < np.array([0.9, 0.7, 0.5, 0.6])[group]
    return truth, np.where(right, truth, rng.integers(0, classes, n)), group


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_as_fairlearn_has_them(seed: int) -> None:
    truth, predicted, group = drawn(seed, 2)
    counts = classification.count(truth, predicted, group, 3, 2)
    frame = fair.MetricFrame(
        metrics={
            "accuracy": sk.accuracy_score,
            "recall": sk.recall_score,
            "precision": sk.precision_score,
            "selection": fair.selection_rate,
            "tpr": fair.true_positive_rate,
            "fpr": fair.false_positive_rate,
        },
        y_true=truth,
        y_pred=predicted,
        sensitive_features=group,
    )
    theirs = frame.by_group
    np.testing.assert_allclose(classification.accuracy(counts), theirs["accuracy"])
    np.testing.assert_allclose(classification.recall(counts)[:, 1], theirs["recall"])
    np.testing.assert_allclose(classification.recall(counts)[:, 1], theirs["tpr"])
    np.testing.assert_allclose(classification.precision(counts)[:, 1], theirs["precision"])
    np.testing.assert_allclose(classification.selection_rate(counts)[:, 1], theirs["selection"])
    np.testing.assert_allclose(classification.false_positive_rate(counts)[:, 1], theirs["fpr"])
    assert classification.gap(classification.accuracy(counts)) == pytest.approx(
        frame.difference()["accuracy"]
    )
    for ours, library in (
        (classification.demographic_parity_difference, fair.demographic_parity_difference),
        (classification.equalised_odds_difference, fair.equalized_odds_difference),
    ):
        assert ours(counts) == pytest.approx(library(truth, predicted, sensitive_features=group))
        flipped = library(1 - truth, 1 - predicted, sensitive_features=group)
        assert ours(counts) == pytest.approx(flipped)  # whichever class is called positive


@pytest.mark.parametrize("seed", range(3))
def test_several_classes_are_each_against_the_rest(seed: int) -> None:
    truth, predicted, group = drawn(seed, 4)
    counts = classification.count(truth, predicted, group, 3, 4)
    parity, odds = (
        [library(truth == k, predicted == k, sensitive_features=group) for k in range(4)]
        for library in (fair.demographic_parity_difference, fair.equalized_odds_difference)
    )
    assert classification.demographic_parity_difference(counts) == pytest.approx(max(parity))
    assert classification.equalised_odds_difference(counts) == pytest.approx(max(odds))
    for g in range(3):
        own = group == g
        macro = sk.precision_recall_fscore_support(truth[own], predicted[own], average="macro")
        assert classification.mean_over_classes(classification.recall(counts))[g] == pytest.approx(macro[1])
        assert classification.mean_over_classes(classification.precision(counts))[g] == pytest.approx(
            macro[0]
        )
        table = classification.confusion(truth, predicted, group, 3, 4)[g]
        assert (table == sk.confusion_matrix(truth[own], predicted[own], labels=range(4))).all()


def test_weights_are_repetitions() -> None:
    truth, predicted, group = drawn(0, 3)
    weights = np.random.default_rng(1).integers(0, 4, len(truth))
    repeated = [np.repeat(part, weights) for part in (truth, predicted, group)]
    one = classification.count(truth, predicted, group, 3, 3, weights.astype(float))
    other = classification.count(*repeated, 3, 3)
    for name in ("truth", "predicted", "hits"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.pooled.total == other.truth.sum()).all()


def test_undefined_rates_are_nan_and_left_out() -> None:
    truth, predicted, group = np.array([0, 0, 1]), np.array([0, 0, 1]), np.array([0, 0, 1])
    counts = classification.count(truth, predicted, group, 3, 2)
    assert np.isnan(classification.accuracy(counts)[2])
    assert np.isnan(classification.recall(counts)[0, 1])
    assert classification.gap(classification.accuracy(counts)) == 0
    assert np.isnan(classification.gap(np.array([np.nan, 0.5])))
    assert np.isnan(classification.equalised_odds_difference(counts.of([0])))


labels = arrays.arrays(np.int64, 30, elements=st.integers(0, 2))


@settings(max_examples=50)
@given(labels, labels, labels, st.permutations([0, 1, 2]), st.permutations([0, 1, 2]))
def test_names_of_groups_and_classes_do_not_matter(
    truth: np.ndarray, predicted: np.ndarray, group: np.ndarray, g: list[int], k: list[int]
) -> None:
    one = classification.count(truth, predicted, group, 3, 3)
    other = classification.count(np.array(k)[truth], np.array(k)[predicted], np.array(g)[group], 3, 3)
    np.testing.assert_allclose(classification.accuracy(one), classification.accuracy(other)[g])
    for difference in (
        classification.demographic_parity_difference,
        classification.equalised_odds_difference,
    ):
        np.testing.assert_allclose(difference(one), difference(other))


@settings(max_examples=50)
@given(labels, labels, labels)
def test_differences_lie_between_zero_and_one_and_vanish_for_a_perfect_model(
    truth: np.ndarray, predicted: np.ndarray, group: np.ndarray
) -> None:
    counts = classification.count(truth, predicted, group, 3, 3)
    for difference in (
        classification.demographic_parity_difference,
        classification.equalised_odds_difference,
    ):
        value = difference(counts)
        assert np.isnan(value) or 0 <= value <= 1
    perfect = classification.equalised_odds_difference(classification.count(truth, truth, group, 3, 3))
    assert np.isnan(perfect) or perfect == 0


def test_calibration_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 600)
    correct = (rng.random(600) < confidence**2).astype(float)
    group = rng.integers(0, 2, 600)
    ours = calibration_error(confidence, correct, group, 3, bins=10)
    assert np.isnan(ours[2])
    for g in range(2):
        own = group == g
        true, predicted = calibration_curve(correct[own], confidence[own], n_bins=10)
        sizes = np.histogram(confidence[own], bins=10, range=(0, 1))[0]
        theirs = (sizes[sizes > 0] / own.sum() * np.abs(true - predicted)).sum()
        assert ours[g] == pytest.approx(theirs)


def test_calibration_by_hand_and_weighted() -> None:
    confidence, correct = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1.0, 0.0, 1.0, 1.0])
    zero = np.zeros(4, dtype=np.int64)
    assert calibration_error(confidence, correct, zero, 1)[0] == pytest.approx((0.45 * 2 + 0.45 * 2) / 4)
    weights = np.array([2.0, 0.0, 1.0, 1.0])
    assert calibration_error(confidence, correct, zero, 1, weights=weights)[0] == pytest.approx(
        (0.05 * 2 + 0.45 * 2) / 4
    )
