# SPDX-License-Identifier: Apache-2.0
"""LiRA against loops over scipy's Gaussians, and on members that were planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import logit, ndtri_exp
from scipy.stats import norm

from expunge.audits.attacks.lira import PER_SAMPLE, SMALLEST_LOSS, fit, logit_of_loss, offline, online
from expunge.audits.scores import auc


def slow(target: Any, shadows: Any, seen: Any, variance: str) -> tuple[list[float], list[float]]:
    """Log-ratio and z by the definition, sample by sample."""
    n = len(target)
    sides = [
        [[shadows[k][i] for k in range(len(shadows)) if seen[k][i] == s] for i in range(n)] for s in (1, 0)
    ]
    spread = []
    for side in sides:
        rests = [(v - np.mean(values)) ** 2 for values in side for v in values]
        pooled = np.sqrt(sum(rests) / sum(len(values) - 1 for values in side))
        spread.append([pooled if variance == "global" else np.std(values, ddof=1) for values in side])
    ratios, zs = [], []
    for i in range(n):
        inside = norm(np.mean(sides[0][i]), spread[0][i])
        outside = norm(np.mean(sides[1][i]), spread[1][i])
        ratios.append(inside.logpdf(target[i]) - outside.logpdf(target[i]))
        # By the logarithm of the smaller tail: 1 − 10⁻¹² has lost its digits, and 56 deviations out it is 0.
        below = target[i] < outside.mean()
        zs.append(ndtri_exp(outside.logcdf(target[i])) if below else -ndtri_exp(outside.logsf(target[i])))
    return ratios, zs


@pytest.mark.parametrize("variance", ["sample", "global"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), count=st.integers(6, 12))
@example(seed=227, count=6)  # 56 deviations out
def test_it_is_its_definition(variance: Any, seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    target, shadows = generator.normal(size=5), generator.normal(size=(count, 5))
    seen = np.stack([generator.permutation(count) < 3 for _ in range(5)], axis=1)
    ratios, zs = slow(target, shadows, seen, variance)
    assert online(target, shadows, seen, variance=variance) == pytest.approx(ratios)
    assert offline(target, shadows, seen, variance=variance) == pytest.approx(zs)
    order = generator.permutation(5)
    again = online(target[order], shadows[:, order], seen[:, order], variance=variance)
    assert again == pytest.approx(np.array(ratios)[order])
    mirrored = online(target, shadows, ~seen, variance=variance)  # sides swapped
    assert mirrored == pytest.approx(-np.array(ratios))


def test_the_variance_is_shared_where_shadows_are_few() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(PER_SAMPLE, 4)) * [1, 2, 3, 4]
    few, many = fit(scores[:-1]), fit(scores)
    assert len(set(few.deviation)) == 1
    assert many.deviation == pytest.approx(scores.std(axis=0, ddof=1))
    # The spread between samples is none of the global variance's.
    shifted = fit(scores[:-1] + np.array([0, 100, 200, 300.0]))
    assert shifted.deviation == pytest.approx(few.deviation)


def test_a_sample_on_which_all_shadows_agree_has_a_finite_score() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(70, 3))
    scores[:, 0] = 5.0
    found = offline(np.array([5.1, 0.0, 0.0]), scores)
    assert np.isfinite(found).all()
    assert found[0] > 50


def test_the_logit_is_stable_where_a_model_is_certain() -> None:
    p = np.array([1e-300, 1e-9, 0.3, 0.5, 0.9])
    assert logit_of_loss(-np.log(p)) == pytest.approx(logit(p))
    sure = np.array([1e-3, 1e-6, 2e-7])
    assert logit_of_loss(sure) == pytest.approx(-np.log(np.expm1(sure)))
    assert logit_of_loss([0.0]) == pytest.approx([-np.log(np.expm1(SMALLEST_LOSS))])
    assert (np.diff(logit_of_loss(np.linspace(0.01, 30, 200))) < 0).all()
    assert logit_of_loss(np.full((2, 3), np.log(2))) == pytest.approx(np.zeros((2, 3)))


def world(seed: int, gain: float, count: int = 32, n: int = 300) -> tuple[Any, Any, Any, Any]:
    """Scores of a target and of shadows: difficulty by sample, and a gain for what was seen."""
    generator = np.random.default_rng(seed)
    hard = generator.normal(0, 3, n)
    seen = generator.random((count + 1, n)) < 0.5
    scores = hard + gain * seen + generator.normal(size=seen.shape)
    return scores[0], seen[0], scores[1:], seen[1:]


def test_it_finds_planted_members_that_a_threshold_does_not() -> None:
    target, member, shadows, seen = world(0, 2.0)
    for scores in (online(target, shadows, seen), offline(target, shadows, seen)):
        assert auc(scores[member], scores[~member]) > 0.85
    assert auc(target[member], target[~member]) < 0.75
    # On Gaussians of one variance the best there is: Φ(gain / √2).
    best = norm.cdf(2.0 / np.sqrt(2))
    many = [world(seed, 2.0, 200) for seed in range(5)]
    areas = [auc(s[m], s[~m]) for t, m, sh, se in many for s in [online(t, sh, se)]]
    assert np.mean(areas) == pytest.approx(best, abs=0.02)


def test_it_finds_nothing_in_exchangeable_data() -> None:
    areas = []
    for seed in range(40):
        target, member, shadows, seen = world(seed, 0.0)
        scores = online(target, shadows, seen)
        areas.append(auc(scores[member], scores[~member]))
    assert abs(np.mean(areas) - 0.5) < 3 * np.std(areas) / np.sqrt(40)
