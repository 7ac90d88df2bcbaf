# SPDX-License-Identifier: Apache-2.0
"""Read and write erasure requests in the catalog. Every state transition is recorded as an event."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from expunge.catalog import states
from expunge.catalog.clock import DeadlineRules
from expunge.catalog.engine import EVENTS
from expunge.catalog.model_store import get_request
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRow, RequestEventRow, RequestRow
from expunge.errors import Conflict, InputError


def change_state(
    session: Session,
    row: RequestRow,
    target: State,
    at: datetime,
    actor: str,
    reason: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Change the state of a request and record the event in the same transaction.

    Args:
        session: A session that holds the write lock and in which the row was read.
        row: The request.
        target: The new state.
        at: Time of the transition, in UTC.
        actor: The person or program that causes it.
        reason: A reason code, no free text.
        detail: Small details without personal data.

    Raises:
        Conflict: If the transition is not allowed; nothing is changed.
    """
    source = State(row.state)
    states.check_transition(source, target, row.id)
    row.state = str(target)
    if target == State.CLOSED:
        row.finished = at
        _wipe(row)
    _record(session, row, source, at, actor, reason, detail)


def add_request(
    session: Session, row: RequestRow, at: datetime, actor: str, reason: str | None = None
) -> None:
    """Add a new request in state ``open``, with its first event."""
    row.state = str(State.OPEN)
    session.add(row)
    session.flush()
    _record(session, row, None, at, actor, reason, None)


def record_note(
    session: Session,
    row: RequestRow,
    at: datetime,
    actor: str,
    reason: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record an event that does not change the state, such as an extension, a final model or a letter."""
    _record(session, row, State(row.state), at, actor, reason, detail)


def advance(
    session: Session,
    row: RequestRow,
    target: State,
    at: datetime,
    actor: str,
    details: dict[State, dict[str, Any]] | None = None,
) -> None:
    """Take all steps towards closing up to a state; none if the request has reached it.

    Args:
        session: As for :func:`move`.
        row: The request.
        target: The last state to reach.
        at: Time of the transitions, in UTC.
        actor: The person or program that causes them.
        details: Details of each step's event.
    """
    for step in states.closing_steps(State(row.state), target):
        change_state(session, row, step, at, actor, detail=(details or {}).get(step))


def forget_selection(session: Session, request_id: str) -> None:
    """Erase a request's selection (ids, paths, a class that may be a person) and the officer's note."""
    _wipe(get_request(session, request_id))


def forget_recipients(row: RequestRow, secret: bytes) -> None:
    """Replace the names of a request's recipients by keyed digests. Whether each was informed is kept."""
    if row.recipients:
        kept = [{**entry, "name": recipient_id(secret, entry["name"])} for entry in row.recipients["list"]]
        row.recipients = {"list": kept}


def recipient_id(secret: bytes, name: str) -> str:
    """Return the pseudonym of a recipient in a closed request. A pseudonym is returned unchanged."""
    if re.fullmatch(r"recipient-[0-9a-f]{16}", name):
        return name
    return f"recipient-{mac(secret, 'recipient', name)[:16]}"


def events(session: Session, request_id: str) -> list[dict[str, Any]]:
    """Return the events of a request, oldest first."""
    query = select(RequestEventRow).where(RequestEventRow.request_id == request_id)
    return [
        {
            "from": row.source,
            "to": row.target,
            "at": row.at.isoformat(timespec="seconds"),
            "actor": row.actor,
            "reason": row.reason,
            "detail": row.detail,
        }
        for row in session.scalars(query.order_by(RequestEventRow.id))
    ]


def requests_in_states(session: Session, wanted: Iterable[State]) -> list[RequestRow]:
    """Return the requests in the given states, in order of receipt."""
    first_event = select(func.min(RequestEventRow.id)).where(RequestEventRow.request_id == RequestRow.id)
    query = select(RequestRow).where(RequestRow.state.in_([str(state) for state in wanted]))
    return list(session.scalars(query.order_by(RequestRow.received, first_event.scalar_subquery())))


def dataset_name(session: Session, row: RequestRow) -> str:
    """Return the name of the dataset that a request concerns."""
    return session.get_one(DatasetRow, row.dataset_id).name


def check_clock(session: Session, at: datetime, rules: DeadlineRules) -> None:
    """Check that the machine's clock did not go backwards, because deadlines depend on it.

    Raises:
        InputError: If the newest event is later than ``at`` by more than ``rules.tolerance_minutes``.
    """
    newest = session.scalar(select(func.max(RequestEventRow.at)))
    if newest is not None and at < newest - timedelta(minutes=rules.tolerance_minutes):
        raise InputError(
            "The clock went backwards.",
            f"It is {at:%Y-%m-%d %H:%M} UTC here, but the last event of a request was at"
            f" {newest:%Y-%m-%d %H:%M} UTC.",
            "Set the clock right. If the earlier time was wrong, raise clock.tolerance_minutes in the"
            " workspace's settings.toml until it is past.",
        )


def find_by_key(session: Session, secret: bytes, key: str, body: dict[str, Any]) -> str | None:
    """Return the request that was opened with an idempotency key, or None.

    Args:
        session: A session on the catalog.
        secret: The workspace's secret.
        key: The caller's idempotency key.
        body: The parameters of the request.

    Raises:
        Conflict: If the key was used with other parameters.
    """
    row = session.scalar(select(RequestRow).where(RequestRow.key_mac == mac(secret, "key", key)))
    if row is None:
        return None
    if row.body_mac != mac(secret, "body", body):
        raise Conflict(
            "The idempotency key was used for another request.",
            f"It belongs to {row.id}, which has other parameters.",
            "Use a new key, or repeat the request unchanged.",
        )
    return row.id


def mac(secret: bytes, kind: str, value: Any) -> str:
    """Return a keyed digest (HMAC-SHA256, hex). Guesses cannot be tested without the workspace's secret."""
    text = json.dumps(["request", kind, value], sort_keys=True, default=str)
    return hmac.digest(secret, text.encode(), "sha256").hex()


def _wipe(row: RequestRow) -> None:
    row.selection = {**{k: v for k, v in row.selection.items() if k != "asked"}, "class": None}
    row.note = None


def _record(
    session: Session,
    row: RequestRow,
    source: State | None,
    at: datetime,
    actor: str,
    reason: str | None,
    detail: dict[str, Any] | None,
) -> None:
    session.add(
        RequestEventRow(
            request_id=row.id,
            source=None if source is None else str(source),
            target=row.state,
            at=at,
            actor=actor,
            reason=reason,
            detail=detail,
        )
    )
    session.info[EVENTS] = True
    session.flush()
