# SPDX-License-Identifier: Apache-2.0
"""The queue of requests in pages, the most urgent first.

Pages are read from the index ``request_queue``. SQLite uses the index for sorting only if a query selects
either open or closed requests, so the two halves of the queue are queried one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Integer, Select, func, literal_column, or_, select

from expunge.catalog import states
from expunge.catalog.states import State
from expunge.catalog.tables import DUE_AT, IS_CLOSED, DatasetRow, Moment, RequestRow
from expunge.erasure.holds import HeldModel, held
from expunge.erasure.status import describe
from expunge.errors import InputError
from expunge.web.queries.pages import Page, decode, encode

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

PENDING = (*states.WAITING_STATES, *states.RUNNING_STATES, State.EXECUTED)
closed_half: ColumnElement[int] = literal_column(IS_CLOSED, Integer)
due_at: ColumnElement[datetime] = literal_column(DUE_AT, Moment)


def queue(
    workspace: Workspace,
    *,
    states: Sequence[str] = (),
    dataset: str | None = None,
    overdue: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Page:
    """Return a page of requests: open ones first, by due date.

    Args:
        workspace: The workspace.
        states: Only these states; empty for all.
        dataset: Only requests for this dataset.
        overdue: Only overdue requests.
        limit: Largest number of requests.
        cursor: ``next`` of the previous page.

    Returns:
        Items as of ``request list --json``, and the number of all matching requests.

    Raises:
        InputError: If a state is unknown or the cursor is invalid.
    """
    at = workspace.clock()
    wanted = _wanted(states, overdue)
    after = _position(cursor) if cursor is not None else None
    halves = [part for part in (0, 1) if _half(wanted, part) and (after is None or part >= after[0])]
    with workspace.session() as session:
        conditions = _conditions(session, dataset, at if overdue else None)
        found: list[Any] = []
        for part in halves:
            query = page_query(part, _half(wanted, part), limit + 1 - len(found)).where(*conditions)
            if after is not None and part == after[0]:
                query = query.where(due_at >= after[1], or_(due_at > after[1], RequestRow.id > after[2]))
            found += session.execute(query) if len(found) <= limit else []
        ids = [row[0] for row in found[:limit]]
        rows = {row.id: row for row in session.scalars(select(RequestRow).where(RequestRow.id.in_(ids)))}
        concerned = {row.dataset_id for row in rows.values()}
        # Keep the rows referenced: the session drops unreferenced rows and would reload them per request.
        datasets = session.scalars(select(DatasetRow).where(DatasetRow.id.in_(concerned))).all()
        on_hold = held(session, workspace.settings.audit.attempts)
        items = [request_summary(workspace, session, rows[i], at, on_hold) for i in ids]
        del datasets
        total = _count(session, wanted, conditions)
    more = len(found) > limit
    last = found[limit - 1] if more else None
    position = [last[1], last[2].replace(tzinfo=None).isoformat(), last[0]] if last else None
    return Page(items, encode(position) if position else None, total)


def page_query(part: int, wanted: frozenset[State], limit: int) -> Select[str, int, datetime]:
    """Return the query for the first requests of one half of the queue.

    Args:
        part: 0 for open requests, 1 for closed ones.
        wanted: States to include.
        limit: Largest number of requests.
    """
    half = literal_column(str(part), Integer)  # a literal, so that the database can use the index
    query = (
        select(RequestRow.id, closed_half, due_at).where(closed_half == half).order_by(due_at, RequestRow.id)
    )
    if wanted != _half(frozenset(State), part):
        query = query.where(RequestRow.state.in_(sorted(wanted)))
    return query.limit(limit)


def request_summary(
    workspace: Workspace,
    session: Session,
    row: RequestRow,
    at: datetime,
    on_hold: Mapping[str, HeldModel] | None = None,
) -> dict[str, Any]:
    """Return a request as the command line does, with ``certified`` in place of the certificate's path."""
    request = describe(session, row, at, workspace.settings, on_hold)
    return {**request, "certified": request.pop("certificate") is not None}


def counts(workspace: Workspace) -> dict[str, Any]:
    """Return the number of requests in each state, of overdue requests, and of all."""
    with workspace.session() as session:
        by_state = _by_state(session)
    return {"states": by_state, "overdue": count_overdue(workspace), "total": sum(by_state.values())}


def count_overdue(workspace: Workspace) -> int:
    """Return the number of overdue requests."""
    with workspace.session() as session:
        conditions = _conditions(session, None, workspace.clock())
        return _count(session, frozenset(PENDING), conditions)


def _count(session: Session, wanted: frozenset[State], conditions: Sequence[ColumnElement[bool]]) -> int:
    if not conditions:
        return sum(n for state, n in _by_state(session).items() if state in wanted)
    query = select(func.count()).select_from(RequestRow).where(*conditions)
    if wanted != frozenset(State):
        query = query.where(RequestRow.state.in_(sorted(wanted)))
    return session.scalar(query) or 0


def _by_state(session: Session) -> dict[str, int]:
    found = session.execute(select(RequestRow.state, func.count()).group_by(RequestRow.state)).all()
    return {str(state): 0 for state in State} | {str(state): int(n) for state, n in found}


def _wanted(named: Sequence[str], overdue: bool) -> frozenset[State]:
    unknown = [state for state in named if state not in list(State)]
    if unknown:
        raise InputError("There is no such state.", f"Known: {', '.join(State)}.", "Choose from them.")
    wanted = frozenset(map(State, named)) or frozenset(State)
    return wanted & frozenset(PENDING) if overdue else wanted


def _half(wanted: frozenset[State], part: int) -> frozenset[State]:
    return frozenset(state for state in wanted if (state == State.CLOSED) == bool(part))


def _conditions(session: Session, dataset: str | None, late_at: datetime | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if dataset is not None:
        known = session.scalar(select(DatasetRow.id).where(DatasetRow.name == dataset))
        found.append(RequestRow.dataset_id == (-1 if known is None else known))
    if late_at is not None:
        found += [closed_half == literal_column("0", Integer), due_at < late_at]
    return found


def _position(cursor: str) -> tuple[int, datetime, str]:
    part, moment, last = decode(cursor, int, str, str)
    try:
        return part, datetime.fromisoformat(moment).replace(tzinfo=UTC), last
    except ValueError as error:
        raise InputError("The cursor is not valid for this list.", "", "Omit it.") from error
