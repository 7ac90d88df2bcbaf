# SPDX-License-Identifier: Apache-2.0
"""The table of state transitions."""

from __future__ import annotations

import itertools

import pytest

from expunge.catalog import states
from expunge.catalog.states import TRANSITIONS, State
from expunge.errors import InputError


def reachable(start: State) -> set[State]:
    """Return all states that can be reached from a state."""
    found, open_ = {start}, [start]
    while open_:
        for state in TRANSITIONS[open_.pop()] - found:
            found.add(state)
            open_.append(state)
    return found


def test_every_state_is_reachable_and_leads_to_closed() -> None:
    assert set(TRANSITIONS) == set(State) == reachable(State.OPEN)
    assert all(State.CLOSED in reachable(state) for state in State)
    assert TRANSITIONS[State.CLOSED] == frozenset()


def test_erased_requests_cannot_be_refused() -> None:
    for state in (State.RUNNING, State.RESUMED, *states.EXECUTED_STATES):
        assert State.REFUSED not in TRANSITIONS[state]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_transitions_outside_the_table_are_errors(source: State, target: State) -> None:
    if target in TRANSITIONS[source]:
        states.check_transition(source, target, "r-1")
    else:
        with pytest.raises(InputError, match=f"is {source}: it cannot become {target}"):
            states.check_transition(source, target, "r-1")


@pytest.mark.parametrize(
    ("source", "target"),
    list(
        itertools.product(
            (State.RUNNING, State.RESUMED, State.FAILED, *states.CLOSING_STATES), states.CLOSING_STATES
        )
    ),
)
def test_closing_steps_are_legal_and_ordered(source: State, target: State) -> None:
    steps = states.closing_steps(source, target)
    for before, after in itertools.pairwise((source, *steps)):
        assert after in TRANSITIONS[before]
    order = states.CLOSING_STATES
    if source in order and order.index(source) >= order.index(target):
        assert steps == ()
    else:
        assert steps[-1] == target


def test_reasons_match_the_gdpr() -> None:
    articles = {name: article for name, (article, _) in states.GROUNDS.items()}
    assert articles.pop("data-quality") == "–", "nobody's right is used where data was only bad"
    assert set(articles.values()) == {f"17(1)({c})" for c in "abcdef"}
    assert {f"17(3)({c})" for c in "abcde"} < {article for article, _ in states.REFUSALS.values()}
    with pytest.raises(InputError, match="not known"):
        states.reason_of(states.GROUNDS, "because", "The ground")
