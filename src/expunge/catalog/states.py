# SPDX-License-Identifier: Apache-2.0
"""States of a request, the table of allowed transitions, and the legal grounds and reasons."""

from __future__ import annotations

from enum import StrEnum

from expunge.errors import Conflict, InputError


class State(StrEnum):
    """State of a request.

    ``executed``: every model is final, but copies may remain, such as the user's originals. ``audited``:
    every result was audited or is exact. ``certified``: the last certificate is written. ``closed``: the
    catalog has also forgotten the selection. ``resumed``: execution continues after a failure or a crash, or
    for a model that was left out before.
    """

    OPEN = "open"
    SCOPED = "scoped"
    APPROVED = "approved"
    REFUSED = "refused"
    RUNNING = "running"
    RESUMED = "resumed"
    FAILED = "failed"
    EXECUTED = "executed"
    AUDITED = "audited"
    CERTIFIED = "certified"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.OPEN: frozenset({State.SCOPED, State.REFUSED}),
    State.SCOPED: frozenset({State.APPROVED, State.REFUSED}),
    State.APPROVED: frozenset({State.RUNNING, State.FAILED, State.REFUSED}),
    State.REFUSED: frozenset({State.CLOSED}),
    State.RUNNING: frozenset({State.EXECUTED, State.FAILED, State.RESUMED}),
    State.RESUMED: frozenset({State.RUNNING, State.EXECUTED, State.FAILED}),
    State.FAILED: frozenset({State.RESUMED, State.REFUSED}),
    State.EXECUTED: frozenset({State.AUDITED, State.RESUMED}),
    State.AUDITED: frozenset({State.CERTIFIED}),
    State.CERTIFIED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}

WAITING_STATES = (State.OPEN, State.SCOPED, State.APPROVED)  # nothing was erased yet
RUNNING_STATES = (State.RUNNING, State.RESUMED, State.FAILED)  # not all models are final
EXECUTED_STATES = (State.EXECUTED, State.AUDITED, State.CERTIFIED)  # all models are final
CLOSING_STATES = (*EXECUTED_STATES, State.CLOSED)


def check_transition(source: State, target: State, request_id: str) -> None:
    """Check that a request may change from one state to another.

    Raises:
        Conflict: If the transition is not allowed.
    """
    if target not in TRANSITIONS[source]:
        allowed = ", ".join(sorted(TRANSITIONS[source])) or "nothing else"
        raise Conflict(
            f"The request {request_id} is {source}: it cannot become {target}.",
            f"From there it can become: {allowed}.",
            f"See it with: expunge request show {request_id}",
        )


def closing_steps(source: State, target: State) -> tuple[State, ...]:
    """Return the states to pass from ``source`` to ``target``, between execution and closing.

    The result is empty if the request has already reached the target.
    """
    if source in CLOSING_STATES:
        return (
            CLOSING_STATES[CLOSING_STATES.index(source) + 1 : CLOSING_STATES.index(target) + 1]
            if target in CLOSING_STATES
            else ()
        )
    if target not in CLOSING_STATES:
        return ()
    first = (State.RESUMED,) if source == State.FAILED else ()
    return (*first, *CLOSING_STATES[: CLOSING_STATES.index(target) + 1])


# By the name used on the command line: article of the GDPR, and its text in short.
GROUNDS = {
    "not-necessary": ("17(1)(a)", "no longer necessary for the purposes"),
    "consent-withdrawn": ("17(1)(b)", "consent is withdrawn, and there is no other legal ground"),
    "objection": ("17(1)(c)", "objection under article 21"),
    "unlawful": ("17(1)(d)", "unlawfully processed"),
    "legal-obligation": ("17(1)(e)", "must be erased under Union or Member State law"),
    "child": ("17(1)(f)", "collected from a child for an information society service"),
    "data-quality": ("–", "nobody's request: the data was wrong, or skewed the model"),
}
REFUSALS = {
    "no-ground": ("17(1)", "no ground of article 17(1) applies"),
    "expression": ("17(3)(a)", "freedom of expression and information"),
    "obligation": ("17(3)(b)", "legal obligation, public interest or official authority"),
    "public-health": ("17(3)(c)", "public interest in public health"),
    "research": ("17(3)(d)", "archiving, research or statistics would be seriously impaired"),
    "legal-claims": ("17(3)(e)", "establishment, exercise or defence of legal claims"),
    "unfounded": ("12(5)", "manifestly unfounded"),
    "excessive": ("12(5)", "excessive, in particular repetitive"),
    "identity": ("12(6)", "reasonable doubts about the identity were not resolved"),
    "not-identifiable": ("11(2)", "the controller cannot identify the data subject"),
}
EXTENSIONS = {
    "complexity": ("12(3)", "complexity of the request"),
    "number": ("12(3)", "number of requests"),
}


def reason_of(table: dict[str, tuple[str, str]], name: str, what: str) -> str:
    """Return a reason's name after checking that the table has it.

    Args:
        table: ``GROUNDS``, ``REFUSALS`` or ``EXTENSIONS``.
        name: Name of the reason.
        what: What the reason is for, as the subject of the error message.

    Raises:
        InputError: If the name is unknown; the message lists the known ones.
    """
    if name not in table:
        raise InputError(f"{what} {name!r} is not known.", f"Known: {', '.join(table)}.", "Choose one.")
    return name
