# SPDX-License-Identifier: Apache-2.0
"""Label errors against cleanlab on the same probabilities, and on errors that were planted."""

from __future__ import annotations

import numpy as np
import pytest
from bias.find_worlds import problem
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_normalized_margin_for_each_label, get_self_confidence_for_each_label
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from expunge.bias.attribution.label_errors import (
    confident_joint,
    cross_validated,
    label_issues,
    normalised_margin,
    self_confidence,
    thresholds,
)
from expunge.bias.attribution.softmax import fit_head
from expunge.errors import InputError


def drawn(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which every class has some, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += rng.choice([2.0, -2.0], n, p=[0.8, 0.2])
    p = np.exp(logits)
    return labels, p / p.sum(1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(20, 120), st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_scores_and_issues_are_those_of_cleanlab(seed: int, n: int, classes: int) -> None:
    labels, p = drawn(seed, n, classes)
    confident = p >= thresholds(labels, p)
    likely = confident[np.arange(n), p.argmax(1)]
    # Where several classes are confident, cleanlab takes the most likely of all, we, as the paper, of those.
    assume((likely | (confident.sum(1) < 2)).all())
    np.testing.assert_allclose(self_confidence(labels, p), get_self_confidence_for_each_label(labels, p))
    np.testing.assert_allclose(
        normalised_margin(labels, p), get_normalized_margin_for_each_label(labels, p), atol=1e-12
    )
    joint = confident_joint(labels, p)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))  # as cleanlab does
    np.testing.assert_array_equal(joint, compute_confident_joint(labels, p, calibrate=False))
    theirs = find_label_issues(labels, p, filter_by="confident_learning", n_jobs=1)
    np.testing.assert_array_equal(label_issues(labels, p), theirs)


def test_planted_errors_are_found_and_a_random_ranking_finds_chance() -> None:
    hits, chance, theirs = [], [], []
    for seed in range(3):
        p = problem(seed, 400, bad=(0, 1, 2), share=0.4)
        labels = p.y.numpy()
        held_out = cross_validated(p.x.double().numpy(), labels, seed=seed)
        top = int(p.wrong.sum())
        order = np.argsort(self_confidence(labels, held_out))
        hits.append(p.wrong[order[:top]].mean())
        chance.append(p.wrong[np.random.default_rng(seed).permutation(400)[:top]].mean())
        theirs.append(p.wrong[np.argsort(get_self_confidence_for_each_label(labels, held_out))[:top]].mean())
    assert hits == theirs
    assert np.mean(hits) > 0.6
    assert np.mean(chance) < 0.3


def test_no_label_is_judged_by_a_head_that_saw_it() -> None:
    """Changing one label does not change the predictions for samples of its subject."""
    rng = np.random.default_rng(0)
    x, labels, people = rng.normal(size=(60, 4)), rng.integers(0, 3, 60), [f"s{i // 3}" for i in range(60)]
    before = cross_validated(x, labels, people, classes=3)
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 3
    after = cross_validated(x, changed, people, classes=3)
    np.testing.assert_array_equal(before[6:9], after[6:9])
    assert (before != after).any()


def test_the_head_is_that_of_another_library() -> None:
    p = problem(0, 200, pool=2)
    x, labels = p.x.double().numpy(), p.y.numpy()
    head = fit_head(x, labels, 10, penalty=1e-2)
    z = (x - x.mean(0)) / np.where(x.std(0) > 1e-8, x.std(0), 1)
    theirs = LogisticRegression(C=1 / (1e-2 * 200), tol=1e-8, max_iter=5000).fit(z, labels)
    np.testing.assert_allclose(head.probabilities(x), theirs.predict_proba(z), atol=2e-3)


@pytest.mark.parametrize(
    ("labels", "p", "complaint"),
    [
        ([0, 1], [[0.5, 0.5]], "do not fit together"),
        ([0], [[1.0]], "do not fit together"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "not a finite number"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "not one of the classes"),
    ],
)
def test_what_does_not_fit_is_refused(labels: list[int], p: list[list[float]], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        label_issues(np.array(labels), np.array(p))


def test_nothing_to_cross_validate() -> None:
    x = np.zeros((4, 2))
    with pytest.raises(InputError, match="Cross-validation is not possible"):
        cross_validated(x, np.array([0, 1, 0, 1]), ["a"] * 4)
    x[0, 0] = np.inf
    with pytest.raises(InputError, match="not a finite number"):
        cross_validated(x, np.array([0, 1, 0, 1]))
