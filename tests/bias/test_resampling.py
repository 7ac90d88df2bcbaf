# SPDX-License-Identifier: Apache-2.0
"""Intervals by drawing people anew, and shuffled groups: the right width and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.bias.metrics.resampling import chance, intervals, shuffles, weights
from expunge.data.types import Sample


def people(count: int, each: int) -> list[Sample]:
    return [Sample(f"{i}-{k}", "test", "", subjects=(f"p{i}",)) for i in range(count) for k in range(each)]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_people_are_drawn_with_all_their_samples() -> None:
    drawn = np.array(list(weights(people(5, 3), 200, generator())))
    assert drawn.shape == (200, 15)
    by_person = drawn.reshape(200, 5, 3)
    assert (by_person == by_person[:, :, :1]).all()
    assert (by_person[:, :, 0].sum(1) == 5).all()
    assert drawn.mean() == pytest.approx(1)


def test_multiplicities_of_samples_without_and_with_several_people() -> None:
    alone = [Sample(str(i), "test", "") for i in range(6)]
    drawn = np.array(list(weights(alone, 100, generator())))
    assert (drawn.sum(1) == 6).all()
    shared = [Sample("a", "t", "", subjects=("p",)), Sample("b", "t", "", subjects=("q",)),
              Sample("c", "t", "", subjects=("p", "q"))]  # fmt: skip
    drawn = np.array(list(weights(shared, 100, generator())))
    assert (drawn[:, 2] == drawn[:, 0] * drawn[:, 1]).all()


def test_the_same_seed_gives_the_same_draws() -> None:
    one, other = (np.array(list(weights(people(9, 2), 70, generator(3)))) for _ in range(2))
    assert (one == other).all()


def mean_of(values: np.ndarray, samples: list[Sample], seed: int) -> tuple[float, float]:
    found = intervals(
        lambda w: np.array([np.average(values, weights=w)]), weights(samples, 200, generator(seed))
    )
    assert found[0] is not None
    return found[0]


def test_coverage_with_people_whose_samples_are_alike() -> None:
    """All samples of a person share one value: drawing samples would be three times too narrow."""
    samples, hits, naive = people(40, 9), 0, 0
    lonely = [Sample(s.path, "test", "") for s in samples]
    for seed in range(100):
        values = np.repeat(generator(seed).normal(0, 1, 40), 9)
        low, high = mean_of(values, samples, seed)
        hits += low <= 0 <= high
        low, high = mean_of(values, lonely, seed)
        naive += low <= 0 <= high
    assert hits >= 86  # 95 expected; 86 is reached but in 1 of 1000 such tests
    assert naive < 70  # the control


def test_an_undefined_figure_has_no_interval() -> None:
    drawn = list(weights(people(5, 1), 50, generator()))
    assert intervals(lambda w: np.array([np.nan, 1.0]), iter(drawn)) == [None, (1.0, 1.0)]


def test_shuffles_keep_people_and_sizes() -> None:
    samples = people(8, 3)
    group = np.repeat([0, 0, 0, 1, 1, 1, 1, 1], 3)
    for mixed in shuffles(samples, group, 20, generator()):
        assert (mixed.reshape(8, 3) == mixed.reshape(8, 3)[:, :1]).all()
        assert sorted(mixed) == sorted(group)
    own = np.arange(24) % 2  # a person's samples are in different groups: samples change places
    mixed = list(shuffles(samples, own, 20, generator()))
    assert all(sorted(m) == sorted(own) for m in mixed)
    assert any((m.reshape(8, 3) != m.reshape(8, 3)[:, :1]).any() for m in mixed)


def test_chance() -> None:
    by_chance, p = chance(0.5, [0.1] * 95 + [0.6] * 5)
    assert p == pytest.approx(6 / 101)
    assert by_chance is not None
    assert 0.1 <= by_chance <= 0.6
    assert chance(float("nan"), [0.1]) == (None, None)
    assert chance(0.1, [float("nan")]) == (None, None)
