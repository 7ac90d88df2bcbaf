# SPDX-License-Identifier: Apache-2.0
"""Bad input to every attack and statistic: an error that says what, why and what next, never a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from expunge.audits.attacks.lira import fit, logit_of_loss, offline, online
from expunge.audits.attacks.rmia import rmia
from expunge.audits.attacks.subjects import compare_subject, evened, minus_difficulty, subject_scores
from expunge.audits.attacks.u_lira import Shadows, leave_one_out, run_shadows, u_lira
from expunge.audits.distances.forgetting_score import epsilons, forgetting_score, provable_epsilon
from expunge.audits.distances.klom import gaussian_klom, klom
from expunge.audits.distances.null import against_null
from expunge.audits.equivalence import ks_distance, ks_equivalence, ks_upper_bound, tost
from expunge.audits.ranks import holm, permutation_test, rank_test
from expunge.audits.roc import balanced_accuracy, best_threshold, roc, tpr_at
from expunge.errors import InputError

G = np.random.default_rng(0)
ROW, MANY, SEEN = G.normal(size=12), G.normal(size=(8, 12)), np.arange(96).reshape(8, 12) % 5 % 2 == 0
LOGS, LOGS_MANY = -np.abs(ROW), -np.abs(MANY)
WHO = np.arange(12) // 3


def seeded() -> np.random.Generator:
    return np.random.default_rng(1)


# Two rows of scores (n,), or two tables of scores (models, n), or a row and a table.
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "roc": roc,
    "tpr_at": lambda a, b: tpr_at(a, b, 0.9),
    "balanced_accuracy": lambda a, b: balanced_accuracy(a, b, 0.0),
    "best_threshold": best_threshold,
    "ks_distance": ks_distance,
    "ks_equivalence": lambda a, b: ks_equivalence(a, b, 0.3),
    "ks_upper_bound": ks_upper_bound,
    "tost": lambda a, b: tost(a, b, 0.3),
    "permutation_test": lambda a, b: permutation_test(a, b, generator=seeded()),
}
TABLES: dict[str, Callable[[Any, Any], Any]] = {
    "klom": klom,
    "gaussian_klom": gaussian_klom,
    "forgetting_score": forgetting_score,
    "against_null": lambda a, b: against_null(a, b, klom, seeded()),
}
MIXED: dict[str, Callable[[Any, Any], Any]] = {
    "offline": offline,
    "online": lambda a, b: online(a, b, SEEN),
    "u_lira": lambda a, b: u_lira(a, Shadows(np.asarray(b), SEEN)),
    "minus_difficulty": minus_difficulty,
    "rmia": lambda a, b: rmia(-np.abs(a), -np.abs(b), LOGS, LOGS_MANY),
    "rmia, population": lambda a, b: rmia(LOGS, LOGS_MANY, -np.abs(a), -np.abs(b)),
}
ALL = [
    *((name, f, ROW, ROW[:7]) for name, f in PAIRS.items()),
    *((name, f, MANY, MANY[:5]) for name, f in TABLES.items()),
    *((name, f, ROW, MANY) for name, f in MIXED.items()),
]


def check_message(error: pytest.ExceptionInfo[InputError]) -> None:
    assert error.value.what
    assert error.value.why
    assert error.value.next_step


@pytest.mark.parametrize(("name", "function", "one", "two"), ALL, ids=[a[0] for a in ALL])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers(name: str, function: Any, one: Any, two: Any, bad: float) -> None:
    function(one, two)  # good input passes
    for position in (0, 1):
        given = [np.array(one), np.array(two)]
        given[position].flat[1] = bad
        with pytest.raises(InputError, match="not all finite numbers") as error:
            function(*given)
        check_message(error)


@pytest.mark.parametrize(("name", "function", "one", "two"), ALL, ids=[a[0] for a in ALL])
def test_empty_and_misshapen_scores(name: str, function: Any, one: Any, two: Any) -> None:
    for position in (0, 1):
        for replace in (lambda v: v[:0], lambda v: v[..., None], lambda v: 1.0):
            given = [np.array(one), np.array(two)]
            given[position] = replace(given[position])
            with pytest.raises(InputError) as error:
                function(*given)
            check_message(error)


@pytest.mark.parametrize("name", [*TABLES, *MIXED])
def test_scores_of_other_samples(name: str) -> None:
    function = {**TABLES, **MIXED}[name]
    with pytest.raises(InputError) as error:
        function(MANY if name in TABLES else ROW, MANY[:, :11])
    check_message(error)


CONSTANT: dict[str, Callable[[], Any]] = {
    "roc": lambda: roc(np.ones(5), np.ones(9)),
    "tpr_at": lambda: tpr_at(np.ones(5), np.ones(9), 0.1),
    "best_threshold": lambda: best_threshold(np.ones(5), np.ones(9)),
    "ks_equivalence": lambda: ks_equivalence(np.ones(5), np.ones(9), 0.2),
    "tost": lambda: tost(np.ones(5), np.ones(9), 0.2),
    "forgetting_score": lambda: forgetting_score(np.ones((5, 3)), np.ones((5, 3))),
    "gaussian_klom": lambda: gaussian_klom(np.ones((5, 3)), np.ones((5, 3))),
    "offline": lambda: offline(np.ones(3), np.ones((5, 3))),
}


@pytest.mark.parametrize("name", list(CONSTANT))
def test_constant_scores(name: str) -> None:
    with pytest.raises(InputError) as error:
        CONSTANT[name]()
    check_message(error)


WRONG: dict[str, Callable[[], Any]] = {
    "a rate of 0": lambda: tpr_at(ROW, -ROW, 0.0),
    "a rate above 1": lambda: tpr_at(ROW, -ROW, 1.5),
    "a level of 1": lambda: tpr_at(ROW, -ROW, 0.5, level=1.0),
    "a margin of 0": lambda: ks_equivalence(ROW, -ROW, 0.0),
    "a margin of 1": lambda: ks_equivalence(ROW, -ROW, 1.0),
    "a negative margin": lambda: tost(ROW, -ROW, -1.0),
    "a probability above 1": lambda: rmia(ROW + 9, LOGS_MANY, LOGS, LOGS_MANY),
    "other references for the population": lambda: rmia(LOGS, LOGS_MANY, LOGS, LOGS_MANY[:2]),
    "an offline factor above 1": lambda: rmia(LOGS, LOGS_MANY, LOGS, LOGS_MANY, a=1.1),
    "a factor gamma of 0": lambda: rmia(LOGS, LOGS_MANY, LOGS, LOGS_MANY, gamma=0.0),
    "a sample without reference": lambda: rmia(
        LOGS, LOGS_MANY, LOGS, LOGS_MANY, unseen=np.zeros((8, 12), bool)
    ),
    "a mask of another shape": lambda: online(ROW, MANY, SEEN[:3]),
    "a mask of numbers": lambda: online(ROW, MANY, SEEN.astype(int)),
    "no shadow model that saw it": lambda: online(ROW, MANY, np.zeros((8, 12), bool)),
    "one shadow model a side": lambda: offline(ROW, MANY[:1]),
    "a variance of one": lambda: fit(MANY, np.eye(8, 12, dtype=bool) | (np.arange(12) > 7), "sample"),
    "a negative loss": lambda: logit_of_loss([-0.1, 1.0]),
    "an odd number of shadows": lambda: run_shadows(
        4, 5, lambda i, g: 0, lambda m, i, g: m, lambda m: ROW, seeded()
    ),
    "a shadow that gives NaN": lambda: run_shadows(
        12, 4, lambda i, g: 0, lambda m, i, g: m, lambda m: ROW * np.nan, seeded()
    ),
    "three shadows": lambda: leave_one_out(Shadows(MANY[:3], SEEN[:3])),
    "too few references for a null": lambda: against_null(MANY[:3], MANY, klom, seeded()),
    "no split": lambda: against_null(MANY, MANY, klom, seeded(), splits=0),
    "a delta of 1": lambda: epsilons(MANY, MANY, delta=1.0),
    "more errors than models": lambda: provable_epsilon(5, 4, 0, 4),
    "no models": lambda: provable_epsilon(0, 0, 0, 4),
    "a candidate that is NaN": lambda: rank_test(np.nan, ROW),
    "no references": lambda: rank_test(1.0, []),
    "too many divisions without a generator": lambda: permutation_test(np.arange(20.0), np.arange(30.0)),
    "a p-value above 1": lambda: holm([0.1, 1.2]),
    "a p-value that is NaN": lambda: holm([0.1, np.nan]),
    "people by name": lambda: subject_scores(ROW, np.array(list("aabbccddeeff"))),
    "too few people": lambda: subject_scores(ROW, WHO[:-1]),
    "18 unseen people": lambda: compare_subject(1.0, np.arange(18.0)),
    "more images than anybody has": lambda: evened(WHO, 4, seeded()),
    "no images": lambda: evened(WHO, 0, seeded()),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_settings_and_material(name: str) -> None:
    with pytest.raises(InputError) as error:
        WRONG[name]()
    check_message(error)
