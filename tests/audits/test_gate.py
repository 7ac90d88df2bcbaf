# SPDX-License-Identifier: Apache-2.0
"""The quick verdict on made-up losses whose truth is known, fakes and destroyed models among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from expunge.audits.gate import ABSENCE, Losses, judge, judge_absence
from expunge.audits.verdict import LEVEL, Utility
from expunge.errors import InputError

FINE = Utility(0.9, 0.9, 0.02, "top1", 500)
N = 400


def losses(mean: float, seed: int, n: int = N) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).gamma(2.0, mean / 2, n)


def both(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> Losses:
    return Losses(before, after, np.arange(len(before)))


MEMBERS, UNSEEN = losses(0.1, 1), losses(1.0, 2)
BEFORE_AFTER = both(UNSEEN, UNSEEN)


def test_a_retrain_passes() -> None:
    found = judge(both(MEMBERS, losses(1.0, 3)), BEFORE_AFTER, FINE)
    assert found.verdict == "pass"
    assert found.traceable
    assert all(abs(bound) <= 0.25 for f in found.figures for bound in f["rho_interval"])


def test_the_untouched_model_fails() -> None:
    found = judge(both(MEMBERS, MEMBERS), BEFORE_AFTER, FINE)
    assert found.verdict == "fail"
    assert found.figures[0]["rho"] == pytest.approx(1)
    assert "Under-forgetting" in found.reasons[0]


def test_half_a_forgotten_set_does_not_pass() -> None:
    half = np.where(np.arange(N) % 2, MEMBERS, losses(1.0, 4))
    assert judge(both(MEMBERS, half), BEFORE_AFTER, FINE).verdict == "fail"


def test_forgetting_too_much_fails() -> None:
    found = judge(both(MEMBERS, losses(4.0, 5)), BEFORE_AFTER, FINE)
    assert found.verdict == "fail"
    assert "Over-forgetting" in found.reasons[0]


def test_a_destroyed_model_fails_without_any_trace() -> None:
    broken = Utility(0.9, 0.1, 0.02, "top1", 500)
    found = judge(both(MEMBERS, losses(9.0, 6)), both(UNSEEN, losses(9.0, 7)), broken)
    assert found.verdict == "fail"
    assert "Utility collapse" in found.reasons[0]


def test_where_the_original_shows_nothing_there_is_no_power() -> None:
    same = losses(1.0, 8)
    found = judge(both(same, same), BEFORE_AFTER, FINE)
    assert found.verdict == "no-power"
    assert found.traceable is False


def test_few_samples_never_pass() -> None:
    for n in (1, 4, 6):
        few = both(MEMBERS[:n], losses(1.0, 9, n))
        assert judge(few, BEFORE_AFTER, FINE).verdict == "no-power"
    few_unseen = both(UNSEEN[:18], UNSEEN[:18])
    verdict = judge(both(MEMBERS, losses(1.0, 3)), few_unseen, FINE)
    assert verdict.verdict == "no-power"
    assert "18 unseen samples allow no conclusion" in verdict.reasons[0]


def subjects(mean: float, people: int, seed: int) -> np.ndarray[Any, Any]:
    """Ten pictures of each person; people differ."""
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [generator.gamma(2.0, mean / 2 * generator.uniform(0.8, 1.2), 10) for _ in range(people)]
    )


def of_people(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> Losses:
    return Losses(before, after, np.arange(len(before)) // 10)


def test_one_person_is_compared_with_unseen_people() -> None:
    """A person takes the place of others: no interval over her own pictures could say how people differ."""
    crowd = subjects(1.0, 30, 1)
    unseen, seen = of_people(crowd, crowd), subjects(0.02, 1, 2)
    untouched = judge(of_people(seen, seen), unseen, FINE)
    assert (untouched.verdict, untouched.failure) == ("fail", "under-forgetting")
    assert all(f["units"] == "subjects" and f["n_null"] == 30 for f in untouched.figures)
    verdicts = [judge(of_people(seen, subjects(1.0, 1, 10 + i)), unseen, FINE).verdict for i in range(20)]
    assert "fail" not in verdicts
    assert judge(of_people(crowd[:10], crowd[:10]), unseen, FINE).verdict == "no-power"


def test_more_candidates_widen_the_intervals() -> None:
    one, many = (judge(both(MEMBERS, losses(1.0, 3)), BEFORE_AFTER, FINE, tests=k) for k in (1, 20))
    widths = [f.figures[0]["rho_interval"][1] - f.figures[0]["rho_interval"][0] for f in (one, many)]
    assert widths[1] > widths[0]


def test_pictures_of_one_person_count_as_one_person() -> None:
    """The same losses say less where they come from few people."""
    people = Losses(UNSEEN, UNSEEN, np.arange(N) // 10)
    alone = judge(both(MEMBERS, losses(1.0, 3)), BEFORE_AFTER, FINE).figures[0]["rho_interval"]
    shared = judge(both(MEMBERS, losses(1.0, 3)), people, FINE).figures[0]["rho_interval"]
    assert shared != alone


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_losses_that_are_no_numbers_are_refused(value: float) -> None:
    bad = MEMBERS.copy()
    bad[3] = value
    with pytest.raises(InputError, match="not a finite number"):
        both(MEMBERS, bad)


def test_constant_losses_have_no_power() -> None:
    flat = np.ones(N)
    assert judge(both(flat, flat), both(flat, flat), FINE).verdict == "no-power"


def test_absence_of_a_class() -> None:
    named, known = np.zeros(200, bool), np.ones(200, bool)
    assert judge_absence(named, FINE, original=known).verdict == "pass"
    named[: int(200 * ABSENCE)] = True
    assert judge_absence(named, FINE, original=known).verdict == "no-power"
    named[:60] = True
    assert judge_absence(named, FINE, original=known).verdict == "fail"
    assert judge_absence(np.zeros(5, bool), FINE, original=np.ones(5, bool)).verdict == "no-power"
    collapsed = Utility(0.9, 0.2, 0.02, "top1", 50)
    assert judge_absence(np.zeros(200, bool), collapsed, original=known).verdict == "fail"
    with pytest.raises(InputError, match="same samples"):
        judge_absence(named, FINE, original=known[:10])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.data())
def test_absence_needs_presence(n: int, data: st.DataObject) -> None:
    """Against SciPy's exact binomial test: no pass where the original need not name the class."""
    before, after = (data.draw(st.integers(0, n)) for _ in range(2))
    named, known = np.arange(n) < after, np.arange(n) < before
    found = judge_absence(named, FINE, original=known)
    present = bool(binomtest(before, n, ABSENCE, alternative="greater").pvalue < (1 - LEVEL) / 2)
    still = binomtest(after, n, ABSENCE, alternative="greater").pvalue < (1 - LEVEL) / 2
    gone = binomtest(after, n, ABSENCE, alternative="less").pvalue < (1 - LEVEL) / 2
    assert found.verdict == ("fail" if still else "pass" if present and gone else "no-power")
    if not still:
        assert found.traceable is present
        assert ("could not notice" in found.reasons[0]) is not present


def test_a_drop_that_few_samples_cannot_show_is_no_collapse() -> None:
    assert Utility(0.8, 0.7, 0.02, "top1", 8).holds
    assert not Utility(0.8, 0.7, 0.02, "top1", 800).holds
    assert not Utility(0.8, 0.5, 0.02, "top1", 8).holds
    assert not Utility(-1.0, -1.1, 0.02, "negative_loss", 8).holds  # no rate: no such allowance
