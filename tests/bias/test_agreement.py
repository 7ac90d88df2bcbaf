# SPDX-License-Identifier: Apache-2.0
"""Agreement of rankings, and scores of groups of samples."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.bias.attribution.agreement import aggregate, agreement, best
from expunge.bias.attribution.ranking import rank
from expunge.errors import InputError

NAN = float("nan")


def test_equal_and_reversed_rankings() -> None:
    a = np.arange(30.0)
    same, against = agreement(a, 2 * a + 1, 5), agreement(a, -a, 5)
    assert (same.spearman, same.kendall, same.overlap) == (pytest.approx(1), pytest.approx(1), 1)
    assert (against.spearman, against.overlap) == (pytest.approx(-1), 0)
    assert same.overlap_by_chance == pytest.approx(5 / 30)


def test_the_interval_covers_the_truth() -> None:
    """Of pairs from a normal distribution with correlation r, ρ is 6/π·asin(r/2)."""
    rng, r, hits = np.random.default_rng(0), 0.6, 0
    truth = 6 / np.pi * np.arcsin(r / 2)
    for seed in range(20):
        a = rng.normal(size=80)
        b = r * a + np.sqrt(1 - r * r) * rng.normal(size=80)
        interval = agreement(a, b, 10, seed).spearman_interval
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert hits >= 16


def test_unrelated_rankings_do_not_agree() -> None:
    rng = np.random.default_rng(0)
    found = agreement(rng.normal(size=200), rng.normal(size=200), 20)
    assert found.spearman_interval is not None
    assert found.spearman_interval[0] < 0 < found.spearman_interval[1]
    assert found.overlap < 0.3


def test_few_items_and_ties_have_no_correlation() -> None:
    few = agreement(np.arange(4.0), np.arange(4.0), 2)
    assert (few.spearman, few.spearman_interval, few.overlap) == (None, None, 1)
    assert agreement(np.zeros(20), np.arange(20.0), 5).spearman is None


def test_unknown_scores_are_left_out() -> None:
    a = np.array([1.0, 2, 3, 4, 5, NAN, 7])
    assert agreement(a, np.arange(7.0), 3).n == 6
    assert best(a, 3).tolist() == [6, 4, 3]
    with pytest.raises(InputError, match="nothing to compare"):
        agreement(np.full(3, NAN), np.arange(3.0), 1)
    with pytest.raises(InputError, match="same items"):
        agreement(np.arange(3.0), np.arange(4.0), 1)


def test_groups_of_samples() -> None:
    scores = np.array([1.0, 2.0, NAN, -4.0, 8.0])
    keys = [("a",), ("a", "b"), ("b",), ("c",), ()]
    names, sums = aggregate(scores, keys)
    assert (names, sums.tolist()) == (["a", "b", "c"], [3, 2, -4])
    assert aggregate(scores, keys, "mean")[1].tolist() == [1.5, 2, -4]
    assert np.isnan(aggregate(scores, [("x",)] * 2 + [("y",)] + [("x",)] * 2)[1][1])


def test_the_top_holds_only_what_does_harm() -> None:
    scores = {"trak": np.array([-1.0, 3.0, 2.0, -5.0, NAN]), "tracin": np.arange(5.0)}
    found = rank(scores, [(str(i),) for i in range(5)], "sample", top=4)
    assert found.names == ("1", "2", "0", "3")
    assert (found.chosen, found.harmful, found.unranked) == (2, 2, 1)
    assert rank(scores, [("s",)] * 5, "subject").chosen == 0


def test_a_ranking_that_does_not_fit() -> None:
    scores = {"trak": np.arange(3.0)}
    keys = [("a",), ("b",), ()]
    with pytest.raises(InputError, match="no ranking"):
        rank(scores, keys, "subject", ranked_by="luck")
    with pytest.raises(InputError, match="--top 0"):
        rank(scores, keys, "subject", top=0)
    with pytest.raises(InputError, match="nothing to rank"):
        rank(scores, [()] * 3, "subject")
