# SPDX-License-Identifier: Apache-2.0
"""The table of transitions."""

from __future__ import annotations

import itertools

import pytest

from expunge.catalog import states
from expunge.catalog.states import LEGAL, State
from expunge.errors import InputError


def reachable(start: State) -> set[State]:
    """All states to which one leads."""
    found, open_ = {start}, [start]
    while open_:
        for state in LEGAL[open_.pop()] - found:
            found.add(state)
            open_.append(state)
    return found


def test_every_state_is_reached_and_every_one_leads_to_the_end() -> None:
    assert set(LEGAL) == set(State) == reachable(State.OPEN)
    assert all(State.CLOSED in reachable(state) for state in State)
    assert LEGAL[State.CLOSED] == frozenset()


def test_what_is_erased_is_never_refused() -> None:
    for state in (State.RUNNING, State.RESUMED, *states.ENDING):
        assert State.REFUSED not in LEGAL[state]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_what_is_not_in_the_table_is_an_error(source: State, target: State) -> None:
    if target in LEGAL[source]:
        states.check(source, target, "r-1")
    else:
        with pytest.raises(InputError, match=f"is {source}: it cannot become {target}"):
            states.check(source, target, "r-1")


@pytest.mark.parametrize(
    ("source", "target"),
    list(itertools.product((State.RUNNING, State.RESUMED, State.FAILED, *states.WAY_OUT), states.WAY_OUT)),
)
def test_the_way_out_is_legal_and_never_goes_back(source: State, target: State) -> None:
    steps = states.way(source, target)
    for before, after in itertools.pairwise((source, *steps)):
        assert after in LEGAL[before]
    order = states.WAY_OUT
    if source in order and order.index(source) >= order.index(target):
        assert steps == ()
    else:
        assert steps[-1] == target


def test_reasons_are_those_of_the_law() -> None:
    articles = {name: article for name, (article, _) in states.GROUNDS.items()}
    assert articles.pop("data-quality") == "–", "nobody's right is used where data was only bad"
    assert set(articles.values()) == {f"17(1)({c})" for c in "abcdef"}
    assert {f"17(3)({c})" for c in "abcde"} < {article for article, _ in states.REFUSALS.values()}
    with pytest.raises(InputError, match="not known"):
        states.reason_of(states.GROUNDS, "because", "The ground")
