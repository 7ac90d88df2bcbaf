# SPDX-License-Identifier: Apache-2.0
"""The states of a request, the one table of legal transitions, and the reasons that the law knows."""

from __future__ import annotations

from enum import StrEnum

from expunge.errors import Conflict, InputError


class State(StrEnum):
    """How far a request is.

    ``executed``: every model is final, but something is left, such as the user's own originals;
    ``audited``: every result was judged, or is exact; ``certified``: the last certificate is written;
    ``closed``: the catalog has forgotten what was asked for, too. ``resumed``: taken up again after it
    failed or its process died.
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


LEGAL: dict[State, frozenset[State]] = {
    State.OPEN: frozenset({State.SCOPED, State.REFUSED}),
    State.SCOPED: frozenset({State.APPROVED, State.REFUSED}),
    State.APPROVED: frozenset({State.RUNNING, State.FAILED, State.REFUSED}),
    State.REFUSED: frozenset({State.CLOSED}),
    State.RUNNING: frozenset({State.EXECUTED, State.FAILED, State.RESUMED}),
    State.RESUMED: frozenset({State.RUNNING, State.EXECUTED, State.FAILED}),
    State.FAILED: frozenset({State.RESUMED, State.REFUSED}),
    State.EXECUTED: frozenset({State.AUDITED}),
    State.AUDITED: frozenset({State.CERTIFIED}),
    State.CERTIFIED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}

WAITING = (State.OPEN, State.SCOPED, State.APPROVED)  # nothing is erased yet
UNDERWAY = (State.RUNNING, State.RESUMED, State.FAILED)  # not all models are final
ENDING = (State.EXECUTED, State.AUDITED, State.CERTIFIED)  # all models are final
WAY_OUT = (*ENDING, State.CLOSED)


def check(source: State, target: State, request_id: str) -> None:
    """Raise an error if a request may not go from one state to another.

    Raises:
        Conflict: If it may not.
    """
    if target not in LEGAL[source]:
        can = ", ".join(sorted(LEGAL[source])) or "nothing else"
        raise Conflict(
            f"The request {request_id} is {source}: it cannot become {target}.",
            f"From there it can become: {can}.",
            f"See it with: expunge request show {request_id}",
        )


def way(source: State, target: State) -> tuple[State, ...]:
    """Return the states after ``source`` up to ``target``, on the way from execution to the end.

    Empty if the request is there, or further, already.
    """
    if source in WAY_OUT:
        return WAY_OUT[WAY_OUT.index(source) + 1 : WAY_OUT.index(target) + 1] if target in WAY_OUT else ()
    if target not in WAY_OUT:
        return ()
    first = (State.RESUMED,) if source == State.FAILED else ()
    return (*first, *WAY_OUT[: WAY_OUT.index(target) + 1])


# What may be recorded, by the name that the command line takes: article of the GDPR and its words in short.
GROUNDS = {
    "not-necessary": ("17(1)(a)", "no longer necessary for the purposes"),
    "consent-withdrawn": ("17(1)(b)", "consent is withdrawn, and there is no other legal ground"),
    "objection": ("17(1)(c)", "objection under article 21"),
    "unlawful": ("17(1)(d)", "unlawfully processed"),
    "legal-obligation": ("17(1)(e)", "must be erased under Union or Member State law"),
    "child": ("17(1)(f)", "collected from a child for an information society service"),
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
    """Return a reason's name if the table has it.

    Raises:
        InputError: If it has not; the message lists what there is.
    """
    if name not in table:
        raise InputError(f"{what} {name!r} is not known.", f"Known: {', '.join(table)}.", "Choose one.")
    return name
