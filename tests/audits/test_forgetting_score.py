# SPDX-License-Identifier: Apache-2.0
"""The competition's forgetting quality against a search over all thresholds by loops."""

from __future__ import annotations

from itertools import pairwise
from math import inf, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from expunge.audits.distances.forgetting_score import epsilons, forgetting_score, provable_epsilon, quality_of


def slow(retrained: list[float], unlearned: list[float], delta: float) -> float:
    """ε of one example: every attack, one after the other."""
    values = sorted({*retrained, *unlearned})
    places = [-inf, *((a + b) / 2 for a, b in pairwise(values)), inf]
    best = 0.0
    for i, low in enumerate(places):
        for high in places[i + 1 :]:
            for turned in (False, True):
                fpr = sum((low < v < high) != turned for v in retrained) / len(retrained)
                fnr = sum((low < v < high) == turned for v in unlearned) / len(unlearned)
                if fpr == fnr == 0:
                    return inf
                if fpr == 0 or fnr == 0:
                    continue
                for a, b in ((fpr, fnr), (fnr, fpr)):
                    if 1 - delta - a > 0:
                        best = max(best, log(1 - delta - a) - log(b))
    return best


SIDE = st.lists(st.integers(0, 8), min_size=2, max_size=9)


@settings(deadline=None)
@given(SIDE, SIDE, st.sampled_from([0.0, 1e-5, 0.1]))
def test_it_is_the_best_of_all_attacks(one: list[int], two: list[int], delta: float) -> None:
    a, b = np.array(one, float)[:, None], np.array(two, float)[:, None]
    found = epsilons(a, b, delta=delta)[0]
    assert found == pytest.approx(slow(list(a[:, 0]), list(b[:, 0]), delta))
    assert epsilons(np.exp(a), np.exp(b), delta=delta)[0] == found  # monotone transforms change nothing
    assert epsilons(-a[::-1], -b, delta=delta)[0] == pytest.approx(found)  # nor turning, nor the order
    assert epsilons(b, a, delta=delta)[0] == pytest.approx(found)  # nor which side is which


def test_bins() -> None:
    found = quality_of(np.array([0, 0.49, 0.5, 1.2, 5.99, 6.0, 50, np.inf]))
    assert found.tolist() == [1, 1, 0.5, 0.25, 2.0**-11, 2.0**-12, 2.0**-12, 2.0**-12]


def test_perfectly_separable_models_have_the_worst_score() -> None:
    generator = np.random.default_rng(0)
    retrained = generator.normal(size=(20, 7))
    found = forgetting_score(retrained, retrained + 99)
    assert found.quality == 2.0**-12
    assert np.isinf(found.epsilon).all()
    assert (found.retrained, found.unlearned) == (20, 20)


def test_it_orders_unlearners_and_no_retrain_is_perfect() -> None:
    generator = np.random.default_rng(1)
    retrained = generator.normal(size=(64, 80))
    scores = [
        forgetting_score(retrained, generator.normal(shift, 1, (64, 80))).quality for shift in (0, 1, 2, 3)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 2 * scores[1]
    assert scores[0] == pytest.approx(0.07, abs=0.015), (
        "the best of many attacks on 64 models finds something in nothing"
    )


def test_over_forgetting_in_both_directions_is_found_by_two_thresholds() -> None:
    """Unlearned models lie on both sides of the retrained ones: one threshold sees little."""
    generator = np.random.default_rng(2)
    retrained = generator.normal(0, 0.5, (40, 1))
    unlearned = generator.choice([-9.0, 9.0], (40, 1))
    assert np.isinf(epsilons(retrained, unlearned)).all()


def test_what_a_number_of_models_can_prove() -> None:
    assert provable_epsilon(0, 64, 0, 64) == pytest.approx(3.04, abs=0.01)
    bound = 1 - 0.05 ** (1 / 64)
    assert provable_epsilon(0, 64, 0, 64) == pytest.approx(log((1 - bound) / bound))
    assert provable_epsilon(32, 64, 32, 64) == 0.0
    high = [binomtest(k, 50).proportion_ci(0.9, method="exact").high for k in (3, 5)]
    truth = max(log((1 - high[0]) / high[1]), log((1 - high[1]) / high[0]))
    assert provable_epsilon(3, 50, 5, 50) == pytest.approx(truth)
    assert provable_epsilon(4, 4, 0, 4) == 0.0


def test_the_proof_holds_as_often_as_it_says() -> None:
    """An attack with both error rates at 0.2 has ε = log 4; the bound exceeds it in at most 10 % of runs."""
    generator, above = np.random.default_rng(3), 0
    for _ in range(1000):
        errors: Any = generator.binomial(64, 0.2, 2)
        above += provable_epsilon(int(errors[0]), 64, int(errors[1]), 64) > log(4)
    assert above <= 100
