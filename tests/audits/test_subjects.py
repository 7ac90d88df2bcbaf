# SPDX-License-Identifier: Apache-2.0
"""All images of a person as one test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from expunge.audits.attacks.lira import fit, offline, online
from expunge.audits.attacks.subjects import compare_subject, evened, minus_difficulty, subject_scores


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), min_size=1, max_size=30), st.randoms())
def test_people_are_summed_by_hand(rows: list[tuple[int, int]], random: object) -> None:
    groups, scores = np.array([g for g, _ in rows]), np.array([s for _, s in rows], float)
    mean, total = subject_scores(scores, groups), subject_scores(scores, groups, how="sum")
    for k, person in enumerate(mean.subjects):
        own = [s for g, s in rows if g == person]
        assert mean.scores[k] == pytest.approx(sum(own) / len(own))
        assert total.scores[k] == pytest.approx(sum(own))
        assert mean.images[k] == len(own)
    random.shuffle(rows)  # type: ignore[attr-defined]
    again = subject_scores([s for _, s in rows], np.array([g for g, _ in rows]))
    assert again.scores == pytest.approx(mean.scores)


def test_the_worst_come_first() -> None:
    found = subject_scores([1.0, 5.0, 3.0, 5.0, 9.0], np.array([7, 8, 7, 9, 8])).worst(2)
    assert found.subjects.tolist() == [8, 9]
    assert found.scores.tolist() == [7.0, 5.0]
    assert found.images.tolist() == [2, 1]


def test_calibration_takes_difficulty_away() -> None:
    references = np.array([[1.0, 2.0], [3.0, 6.0]])
    assert minus_difficulty([2.5, 4.0], references).tolist() == [0.5, 0.0]


def test_evened_people_have_equally_many_images() -> None:
    groups = np.array([0] * 5 + [1] * 3 + [2] * 2 + [3] * 9)
    found = evened(groups, 3, np.random.default_rng(0))
    assert np.bincount(groups[found]).tolist() == [3, 3, 0, 3]
    assert len(set(found)) == len(found)
    draws = {tuple(evened(groups, 3, np.random.default_rng(s))) for s in range(9)}
    assert len(draws) > 1


def world(
    seed: int, gain: float, people: int = 20, images: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a model and of four references; person 0 gains; people and images differ in difficulty."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(people), images)
    hard = generator.normal(0, 2, people)[groups] + generator.normal(0, 2, len(groups))
    scores = hard + generator.normal(size=(5, len(groups)))
    scores[0] += gain * (groups == 0)
    return scores[0], scores[1:], groups


def p_value(seed: int, gain: float, how: str) -> float:
    own, references, groups = world(seed, gain)
    if how == "raw":
        values = own
    elif how == "calibrated":
        values = minus_difficulty(own, references)
    else:
        values = offline(own, references)
    found = subject_scores(values, groups, how="sum" if how == "lira" else "mean").scores
    return compare_subject(found[0], found[1:]).p


@pytest.mark.parametrize("how", ["raw", "calibrated", "lira"])
def test_p_is_uniform_where_nothing_is_left(how: str) -> None:
    found = np.array([p_value(seed, 0.0, how) for seed in range(600)])
    for alpha in (0.05, 0.25, 0.5):
        hits = int((found <= alpha + 1e-9).sum())
        assert binom.ppf(5e-4, 600, alpha) <= hits <= binom.ppf(1 - 5e-4, 600, alpha)


def test_a_planted_person_is_found_by_all_images_together() -> None:
    found = {
        h: np.mean([p_value(s, 1.2, h) <= 0.05 for s in range(60)]) for h in ("raw", "calibrated", "lira")
    }
    assert found["calibrated"] > 0.85
    assert found["lira"] > 0.85
    assert found["raw"] < 0.5, "without calibration, difficulty hides the person"


def test_over_forgetting_is_the_other_side() -> None:
    own, references, groups = world(3, -4.0)
    found = subject_scores(minus_difficulty(own, references), groups).scores
    assert compare_subject(found[0], found[1:]).p == 1.0
    assert compare_subject(found[0], found[1:], side="less").p == 1 / 20
    assert compare_subject(found[0], found[1:], side="two-sided").p == 1 / 20


def test_summed_likelihood_ratios_are_the_ratio_of_all_images() -> None:
    """The product of densities, image by image."""
    generator = np.random.default_rng(4)
    target, shadows = generator.normal(size=6), generator.normal(size=(10, 6))
    seen = np.repeat(np.arange(10)[:, None] < 5, 6, axis=1)
    inside, outside = fit(shadows, seen), fit(shadows, ~seen)
    total = subject_scores(online(target, shadows, seen), np.array([0, 0, 0, 1, 1, 1]), how="sum")
    for person, own in enumerate((range(3), range(3, 6))):
        product = 1.0
        for i in own:
            densities = [norm(g.mean[i], g.deviation[i]).pdf(target[i]) for g in (inside, outside)]
            product *= densities[0] / densities[1]
        assert total.scores[person] == pytest.approx(np.log(product))
