# SPDX-License-Identifier: Apache-2.0
"""U-LiRA on unlearners whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from expunge.audits.attacks.u_lira import Shadows, leave_one_out, run_shadows, u_lira
from expunge.audits.scores import auc


def run(forgets: float, seed: int = 0, n: int = 60, count: int = 24) -> Shadows:
    """Shadows of a toy learner: a model is its score of every target; what it saw scores 3 more."""
    hard = np.random.default_rng(99).normal(0, 2, n)

    def train(chosen: Any, generator: Any) -> Any:
        model = hard + generator.normal(size=n)
        model[chosen] += 3
        return model

    def unlearn(model: Any, chosen: Any, generator: Any) -> Any:
        model[chosen] -= 3 * forgets
        return model

    return run_shadows(n, count, train, unlearn, lambda model: model, np.random.default_rng(seed))


def test_every_target_is_unlearned_by_half_of_the_shadows() -> None:
    found = run(0.0)
    assert (found.unlearned.sum(axis=0) == 12).all()
    assert (found.unlearned.sum(axis=1) == 30).all()
    again, other = run(0.0), run(0.0, seed=1)
    assert np.array_equal(found.scores, again.scores)
    assert not np.array_equal(found.scores, other.scores)


@pytest.mark.parametrize(("forgets", "low", "high"), [(0.0, 0.95, 1.0), (0.5, 0.75, 0.95), (2.0, 0.95, 1.0)])
def test_u_lira_tells_bad_unlearners(forgets: float, low: float, high: float) -> None:
    """Nothing forgotten, half of it, and over-forgetting, which is as telling as none."""
    shadows = run(forgets)
    scores = leave_one_out(shadows)
    assert low < auc(scores[shadows.unlearned], scores[~shadows.unlearned]) <= high


def test_u_lira_cannot_tell_a_perfect_unlearner() -> None:
    areas = []
    for seed in range(20):
        shadows = run(1.0, seed)
        scores = leave_one_out(shadows)
        areas.append(auc(scores[shadows.unlearned], scores[~shadows.unlearned]))
    assert abs(np.mean(areas) - 0.5) < 0.02


def test_leave_one_out_is_u_lira_with_the_others() -> None:
    shadows = run(0.3)
    scores = leave_one_out(shadows)
    for k in (0, 7):
        rest = Shadows(np.delete(shadows.scores, k, 0), np.delete(shadows.unlearned, k, 0))
        assert scores[k] == pytest.approx(u_lira(shadows.scores[k], rest))
