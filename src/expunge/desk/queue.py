# SPDX-License-Identifier: Apache-2.0
"""The queue in pages, the most pressing first, however many requests there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, DateTime, and_, func, literal, or_, select, tuple_, type_coerce
from sqlalchemy import case as sql_case

from expunge.attempts import Held, held
from expunge.catalog import states
from expunge.catalog.states import State
from expunge.catalog.tables import DatasetRow, RequestRow
from expunge.desk.pages import Page, decode, encode
from expunge.docket import describe
from expunge.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

PENDING = (*states.WAITING, *states.UNDERWAY, State.EXECUTED)


def queue(
    workspace: Workspace,
    *,
    states: Sequence[str] = (),
    dataset: str | None = None,
    overdue: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Page:
    """Return a page of requests: first those that are not closed, by their due date.

    Args:
        workspace: Where they are.
        states: Only these; none: all.
        dataset: Only for this one.
        overdue: Only those that should have been answered by now.
        limit: How many.
        cursor: Of the page before.

    Returns:
        Items as of ``request list --json``, and how many fit in all.

    Raises:
        InputError: If a state or the cursor is not known.
    """
    at = workspace.clock()
    wanted = _conditions(states, dataset, at if overdue else None)
    closed, due = _order()
    query = select(RequestRow.id, closed, due).where(*wanted)
    if cursor is not None:
        position = decode(cursor, int, str, str)
        try:
            moment = datetime.fromisoformat(position[1])
        except ValueError as error:
            raise InputError("That is no cursor of this list.", "", "Leave it out.") from error
        query = query.where(
            tuple_(closed, due, RequestRow.id) > tuple_(literal(position[0]), _plain(moment), position[2])
        )
    query = query.order_by(closed, due, RequestRow.id).limit(limit + 1)
    with workspace.session() as session:
        total = session.scalar(select(func.count()).select_from(RequestRow).where(*wanted)) or 0
        found = session.execute(query).all()
        ids = [row[0] for row in found[:limit]]
        rows = {row.id: row for row in session.scalars(select(RequestRow).where(RequestRow.id.in_(ids)))}
        concerned = {row.dataset_id for row in rows.values()}
        # Held until the end: the session forgets what nobody holds, and would read it for each request.
        datasets = session.scalars(select(DatasetRow).where(DatasetRow.id.in_(concerned))).all()
        on_hold = held(session, workspace.settings.audit.attempts)
        items = [shown(workspace, session, rows[i], at, on_hold) for i in ids]
        del datasets
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return Page(items, encode([last[1], last[2].isoformat(), last[0]]) if last else None, total)


def shown(
    workspace: Workspace,
    session: Session,
    row: RequestRow,
    at: datetime,
    on_hold: Mapping[str, Held] | None = None,
) -> dict[str, Any]:
    """Return a request as the command line does, but for its certificate: whether it has one, no path."""
    found = describe(session, row, at, workspace.settings, on_hold)
    return {**found, "certified": found.pop("certificate") is not None}


def counts(workspace: Workspace) -> dict[str, Any]:
    """Return how many requests are in each state, and how many are overdue."""
    at = workspace.clock()
    with workspace.session() as session:
        found = session.execute(select(RequestRow.state, func.count()).group_by(RequestRow.state)).all()
        late = session.scalar(select(func.count()).select_from(RequestRow).where(*_conditions((), None, at)))
    by_state = {str(state): 0 for state in State} | {str(state): int(n) for state, n in found}
    return {"states": by_state, "overdue": late or 0, "total": sum(by_state.values())}


def _conditions(
    wanted: Sequence[str], dataset: str | None, late_at: datetime | None
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    unknown = [state for state in wanted if state not in list(State)]
    if unknown:
        raise InputError("There is no such state.", f"Known: {', '.join(State)}.", "Choose from them.")
    if wanted:
        found.append(RequestRow.state.in_(list(wanted)))
    if dataset is not None:
        ids = select(DatasetRow.id).where(DatasetRow.name == dataset)
        found.append(RequestRow.dataset_id.in_(ids))
    if late_at is not None:
        late = or_(RequestRow.due < late_at, and_(RequestRow.due.is_(None), RequestRow.received < late_at))
        found += [RequestRow.state.in_([str(state) for state in PENDING]), late]
    return found


def _order() -> tuple[ColumnElement[int], ColumnElement[datetime]]:
    closed = sql_case((RequestRow.state == str(State.CLOSED), 1), else_=0).label("closed")
    due = type_coerce(func.coalesce(RequestRow.due, RequestRow.received), DateTime).label("due_at")
    return closed, due


def _plain(moment: datetime) -> Any:
    return literal(moment.replace(tzinfo=None), DateTime)
