# SPDX-License-Identifier: Apache-2.0
"""Requests in the catalog: their transitions, each one durable event, and what they keep while they wait."""

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
from expunge.catalog.clock import Rules
from expunge.catalog.engine import EVENTS
from expunge.catalog.models import get_request
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRow, RequestEventRow, RequestRow
from expunge.errors import Conflict, InputError


def move(
    session: Session,
    row: RequestRow,
    target: State,
    at: datetime,
    actor: str,
    reason: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Bring a request to another state, and record it; both become durable together.

    Args:
        session: A session that holds the write lock, in which the row was read.
        row: The request.
        target: The new state.
        at: When, in UTC.
        actor: Who: a person or the program.
        reason: A code, no free text.
        detail: Small, and without anything personal.

    Raises:
        InputError: If the transition is not legal; nothing is changed.
    """
    source = State(row.state)
    states.check(source, target, row.id)
    row.state = str(target)
    if target == State.CLOSED:
        row.finished = at
        _wipe(row)
    _record(session, row, source, at, actor, reason, detail)


def begin(session: Session, row: RequestRow, at: datetime, actor: str, reason: str | None = None) -> None:
    """Add a new request in the state ``open``, with its first event."""
    row.state = str(State.OPEN)
    session.add(row)
    session.flush()
    _record(session, row, None, at, actor, reason, None)


def note(
    session: Session,
    row: RequestRow,
    at: datetime,
    actor: str,
    reason: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record something that does not change the state: an extension, a model that is final, a letter sent."""
    _record(session, row, State(row.state), at, actor, reason, detail)


def advance(
    session: Session,
    row: RequestRow,
    target: State,
    at: datetime,
    actor: str,
    details: dict[State, dict[str, Any]] | None = None,
) -> None:
    """Take all steps of the way out up to a state; none where the request is that far already."""
    for step in states.way(State(row.state), target):
        move(session, row, step, at, actor, detail=(details or {}).get(step))


def forget_selection(session: Session, request_id: str) -> None:
    """Erase what a request selected (ids, paths, a class that may be a person) and the officer's note."""
    _wipe(get_request(session, request_id))


def forget_recipients(row: RequestRow, secret: bytes) -> None:
    """Replace the names of a request's recipients by keyed digests; whether each was informed stays."""
    if row.recipients:
        kept = [{**entry, "name": recipient_id(secret, entry["name"])} for entry in row.recipients["list"]]
        row.recipients = {"list": kept}


def recipient_id(secret: bytes, name: str) -> str:
    """Return what stands for a recipient once the request is closed; applied twice it changes nothing."""
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


def in_states(session: Session, wanted: Iterable[State]) -> list[RequestRow]:
    """Return the requests in some states, in the order in which they were received."""
    came = select(func.min(RequestEventRow.id)).where(RequestEventRow.request_id == RequestRow.id)
    query = select(RequestRow).where(RequestRow.state.in_([str(state) for state in wanted]))
    return list(session.scalars(query.order_by(RequestRow.received, came.scalar_subquery())))


def dataset_name(session: Session, row: RequestRow) -> str:
    """Return the name of the dataset that a request concerns."""
    return session.get_one(DatasetRow, row.dataset_id).name


def check_clock(session: Session, at: datetime, rules: Rules) -> None:
    """Refuse to go on where the machine's clock went backwards: every date after it would be wrong.

    Raises:
        InputError: If the newest event is later than ``at`` by more than is tolerated.
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


def known_key(session: Session, secret: bytes, key: str, body: dict[str, Any]) -> str | None:
    """Return the request that was opened with an idempotency key, or None.

    Args:
        session: A session on the catalog.
        secret: The workspace's secret.
        key: What the caller chose.
        body: All that was asked for.

    Raises:
        Conflict: If the key came with something else before.
    """
    row = session.scalar(select(RequestRow).where(RequestRow.key_mac == mac(secret, "key", key)))
    if row is None:
        return None
    if row.body_mac != mac(secret, "body", body):
        raise Conflict(
            "The idempotency key was used for another request.",
            f"It belongs to {row.id}, which asked for something else.",
            "Use a new key, or repeat exactly what was asked for.",
        )
    return row.id


def mac(secret: bytes, kind: str, value: Any) -> str:
    """Return a keyed digest; the value cannot be found from it without the workspace's secret."""
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
