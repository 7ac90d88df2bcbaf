# SPDX-License-Identifier: Apache-2.0
"""The verdict by references, on made-up losses whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from expunge.audits.gate import bounds
from expunge.audits.references import PairedLosses, calibrated, confidence, judge_by_references, worst
from expunge.audits.verdict import Utility
from expunge.errors import InputError

FINE = Utility(0.9, 0.9, 0.02, "top1", 500)
N, FORGET, UNSEEN = 19, 60, 80
Array = np.ndarray[Any, Any]


class Truth:
    """Losses: a difficulty of each sample, a noise of each training; members fit better by ``gain``."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.hard = {part: self.generator.normal(0, 1, n) for part, n in (("f", FORGET), ("u", UNSEEN))}

    def losses(self, part: str, gain: float | Array = 0.0) -> Array:
        noise = self.generator.normal(0, 0.4, len(self.hard[part]))
        return np.asarray(np.logaddexp(0, -(2 + self.hard[part] + noise + gain)))

    def asked(self, part: str, candidate: float | Array, original: float, n: int = N) -> PairedLosses:
        references = np.stack([self.losses(part) for _ in range(n)])
        return PairedLosses(self.losses(part, original), self.losses(part, candidate), references)

    def verdict(self, candidate: float | Array, original: float = 3.0, **more: Any) -> Any:
        return judge_by_references(
            self.asked("f", candidate, original), self.asked("u", 0.0, 0.0), FINE, **more
        )


def test_confidence_is_the_log_odds() -> None:
    p = np.array([1e-9, 0.1, 0.5, 0.9, 1 - 1e-9])
    assert confidence(-np.log(p)) == pytest.approx(logit(p), rel=1e-6)
    assert np.isfinite(confidence(np.array([0.0, 1e-300, 800.0]))).all()


def test_calibration_takes_out_difficulty() -> None:
    truth = Truth(0)
    references = np.stack([truth.losses("f") for _ in range(40)])
    raw = confidence(truth.losses("f"))
    assert np.corrcoef(raw, truth.hard["f"])[0, 1] > 0.8
    assert abs(np.corrcoef(calibrated(truth.losses("f"), references), truth.hard["f"])[0, 1]) < 0.4


@pytest.mark.parametrize("seed", range(8))
def test_a_retrain_passes_and_fakes_fail(seed: int) -> None:
    assert Truth(seed).verdict(0.0).verdict == "pass"
    untouched = Truth(seed).verdict(3.0)
    assert (untouched.verdict, untouched.failure) == ("fail", "under-forgetting")
    half = Truth(seed).verdict(3.0 * (np.arange(FORGET) % 2))
    assert (half.verdict, half.failure) == ("fail", "under-forgetting")
    over = Truth(seed).verdict(-3.0)
    assert (over.verdict, over.failure) == ("fail", "over-forgetting")


def test_a_few_samples_cannot_hide_in_a_mean() -> None:
    """Three of sixty are still there: the means say nothing, the worst samples do."""
    gain = np.where(np.arange(FORGET) < 3, 6.0, 0.0)
    found = {f["name"]: f for f in Truth(3).verdict(gain, original=6.0).figures}
    assert abs(found["confidence_gap"]["rho"]) < 0.25
    assert found["worst_samples"]["rho_interval"][0] > 0.25


def test_no_power_where_the_original_shows_nothing() -> None:
    found = Truth(1).verdict(0.0, original=0.0)
    assert found.verdict == "no-power"
    assert found.traceable is False
    assert "19 references that it never saw" in found.reasons[0]


def test_what_a_probe_shows_counts() -> None:
    truth = Truth(2)
    plain = truth.asked("f", 0.0, 3.0), truth.asked("u", 0.0, 0.0)
    kept = truth.asked("f", 3.0, 3.0), truth.asked("u", 0.0, 0.0)
    assert judge_by_references(*plain, FINE, probes={"refitted head": plain}).verdict == "pass"
    found = judge_by_references(*plain, FINE, probes={"refitted head": kept})
    assert found.verdict == "fail"
    assert any("(refitted head)" in reason for reason in found.reasons)


def test_retrains_are_flagged_no_more_often_than_stated() -> None:
    """Over 200 trials; far less often than 2.5 %, since a failure needs a residual beyond the margin."""
    words = [Truth(1000 + i).verdict(0.0).verdict for i in range(200)]
    assert words.count("fail") <= 2
    assert words.count("pass") >= 150


def test_the_worst_tenth_treats_all_models_alike() -> None:
    """Under the null hypothesis the candidate's rank among the references is uniform."""
    ranks = []
    for seed in range(400):
        truth = Truth(seed)
        value, null = worst(truth.losses("f"), np.stack([truth.losses("f") for _ in range(N)]))
        ranks.append(int((null < value).sum()))
    counts = np.bincount(ranks, minlength=N + 1)
    expected = 400 / (N + 1)
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # χ² with 19 degrees of freedom, 0.1 %


@settings(max_examples=50, deadline=None)
@given(st.integers(19, 60), st.integers(0, 10_000))
def test_bounds_hold_a_further_value_as_often_as_stated(n: int, seed: int) -> None:
    low, high = bounds(np.arange(n, dtype=float), 0.9)
    inside = sum(low <= x <= high for x in np.arange(n) + 0.0) - 1  # gaps between the bounds
    assert inside / (n + 1) >= 0.9 - 2 / (n + 1)
    assert (n + 1 - inside) / (n + 1) <= 0.1 + 2 / (n + 1)
    shuffled = np.random.default_rng(seed).permutation(np.arange(n, dtype=float))
    assert bounds(shuffled, 0.9) == (low, high)


def test_too_few_values_bound_nothing() -> None:
    assert bounds(np.arange(18.0), 0.9) == (-np.inf, np.inf)
    assert bounds(np.arange(19.0), 0.9) == (0.0, 18.0)


def test_utility_is_held_against_the_references() -> None:
    truth = Truth(5)
    sets = truth.asked("f", 0.0, 3.0), truth.asked("u", 0.0, 0.0)
    lost = Utility(0.9, 0.8, 0.02, "top1", 500)
    assert judge_by_references(*sets, lost).failure == "utility"
    # A model that was trained without the data is no better: then the candidate is not to blame.
    assert judge_by_references(*sets, Utility(0.9, 0.8, 0.02, "top1", 500, reference=0.81)).verdict == "pass"


def test_bad_input() -> None:
    truth = Truth(6)
    with pytest.raises(InputError, match="do not suffice"):
        judge_by_references(truth.asked("f", 0.0, 3.0, n=18), truth.asked("u", 0.0, 0.0, n=18), FINE)
    with pytest.raises(InputError, match="not those of the same data"):
        PairedLosses(np.zeros(3), np.zeros(4), np.zeros((2, 3)))
    with pytest.raises(InputError, match="not a finite number"):
        PairedLosses(np.zeros(3), np.array([0.0, np.nan, 1.0]), np.zeros((2, 3)))
    flat = PairedLosses(np.ones(FORGET), np.ones(FORGET), np.ones((N, FORGET)))
    unseen = PairedLosses(np.ones(UNSEEN), np.ones(UNSEEN), np.ones((N, UNSEEN)))
    assert judge_by_references(flat, unseen, FINE).verdict == "no-power"
