# SPDX-License-Identifier: Apache-2.0
"""RMIA against its definition, pair by pair, in probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.audits.attacks.rmia import rmia
from expunge.audits.scores import auc


def slow(x: Any, xs: Any, z: Any, zs: Any, a: float, gamma: float, unseen: Any = None) -> list[float]:
    """Score by the definition: loops over samples, population and references."""

    def marginal(probabilities: list[float]) -> float:
        out = sum(probabilities) / len(probabilities)
        return (out + (a * out + 1 - a)) / 2

    scores = []
    for i in range(len(x)):
        own = [np.exp(xs[r][i]) for r in range(len(xs)) if unseen is None or unseen[r][i]]
        hits = 0
        for j in range(len(z)):
            every = [np.exp(zs[r][j]) for r in range(len(zs))]
            ratio = (np.exp(x[i]) / marginal(own)) / (np.exp(z[j]) / marginal(every))
            hits += bool(ratio >= gamma)
        scores.append(hits / len(z))
    return scores


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    references=st.integers(1, 6),
    a=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    gamma=st.sampled_from([0.7, 1.1, 2.0]),
)
def test_it_is_its_definition(seed: int, references: int, a: float, gamma: float) -> None:
    generator = np.random.default_rng(seed)
    x, z = -generator.exponential(1, 9), -generator.exponential(1, 13)
    xs, zs = -generator.exponential(1, (references, 9)), -generator.exponential(1, (references, 13))
    unseen = generator.random((references, 9)) < 0.6
    unseen[0] |= ~unseen.any(axis=0)
    assert rmia(x, xs, z, zs, a=a, gamma=gamma).tolist() == slow(x, xs, z, zs, a, gamma)
    masked = rmia(x, xs, z, zs, a=a, gamma=gamma, unseen=unseen)
    assert masked.tolist() == slow(x, xs, z, zs, a, gamma, unseen)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_order_changes_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, z = -generator.exponential(1, 9), -generator.exponential(1, 13)
    xs, zs = -generator.exponential(1, (3, 9)), -generator.exponential(1, (3, 13))
    found = rmia(x, xs, z, zs)
    by_x, by_z, by_r = generator.permutation(9), generator.permutation(13), generator.permutation(3)
    assert np.array_equal(rmia(x[by_x], xs[:, by_x], z, zs), found[by_x])
    assert np.array_equal(rmia(x, xs, z[by_z], zs[:, by_z]), found)
    assert np.array_equal(rmia(x, xs[by_r], z, zs[by_r]), found)


def test_losses_of_a_detector_do_not_underflow() -> None:
    generator = np.random.default_rng(0)
    hard = generator.uniform(200, 3000, 40)  # exp(−loss) is no float any more
    member = np.arange(40) < 20
    target = -(hard - 30 * member)
    references = -(hard + generator.normal(0, 1, (4, 40)))
    scores = rmia(target[:20], references[:, :20], target[20:], references[:, 20:], a=1.0)
    assert scores.min() == 1.0
    # The scale-free form takes no notice of a loss that is higher for all models alike.
    shifted = rmia(target - 50, references - 50, target, references, a=1.0)
    assert np.array_equal(shifted, rmia(target, references, target, references, a=1.0))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_finds_members_beyond_what_their_difficulty_says(count: int) -> None:
    """Members gain little, and difficulty varies much: calibration finds what the loss alone does not."""
    generator = np.random.default_rng(5)
    hard = generator.gamma(2, 1.0, 1200)
    seen = np.arange(1200) < 400

    def losses(member: Any) -> Any:
        return hard * np.exp(generator.normal(0, 0.1, 1200)) * np.where(member, 0.6, 1.0)

    target = -losses(seen)
    references = -np.stack([losses(np.zeros(1200, bool)) for _ in range(count)])
    z = slice(800, 1200)
    areas = {}
    for a in (0.3, 1.0):
        scores = rmia(target, references, target[z], references[:, z], a=a, gamma=1.2)
        areas[a] = auc(scores[:400], scores[400:800])
    plain = auc(target[:400], target[400:800])
    assert plain < 0.7
    assert areas[1.0] > 0.92
    assert plain < areas[0.3] < areas[1.0] - 0.1, "on losses above 1, a below 1 calibrates little"


def test_it_finds_nothing_in_exchangeable_data() -> None:
    areas = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        losses = generator.gamma(2, 1.0, (5, 600))
        scores = rmia(-losses[0], -losses[1:], -losses[0][400:], -losses[1:, 400:])
        areas.append(auc(scores[:200], scores[200:400]))
    assert abs(np.mean(areas) - 0.5) < 3 * np.std(areas) / np.sqrt(40)
    assert max(areas) < 0.62
