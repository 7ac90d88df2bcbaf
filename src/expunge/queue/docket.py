# SPDX-License-Identifier: Apache-2.0
"""The queue as people see it: each request with its clock, and what waiting saves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, states
from expunge.catalog import requests as queue
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.errors import InputError
from expunge.queue import attempts

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.catalog.models import Published
    from expunge.queue.attempts import Held
    from expunge.settings import WorkspaceSettings
    from expunge.steps.scoping import Scope
    from expunge.workspace import Workspace


def describe(
    session: Session,
    row: RequestRow,
    at: datetime,
    settings: WorkspaceSettings,
    on_hold: Mapping[str, Held] | None = None,
) -> dict[str, Any]:
    """Return a request in the form of ``request list --json``.

    Args:
        session: A session on the catalog, in which the row was read.
        row: The request.
        at: The present moment.
        settings: Of the workspace.
        on_hold: What :func:`expunge.queue.attempts.held` found, where many are described; None: look.
    """
    rules, state = settings.rules, State(row.state)
    deadline = row.due or clock.due(row.received, rules)
    pending = state in (*states.WAITING, *states.UNDERWAY, State.EXECUTED)
    left = clock.days_left(deadline, at, rules)
    shown: dict[str, Any] = {
        "request": row.id,
        "state": row.state,
        "dataset": queue.dataset_name(session, row),
        "received": _text(row.received),
        "due": _text(deadline),
        "run_by": _text(clock.must_run_by(deadline, rules)),
        "days_left": left if pending else None,
        "overdue": pending and at > deadline,
        "reminders": [day.isoformat() for day in clock.reminders(deadline, rules)] if pending else [],
        "remind": pending and left <= max(rules.reminder_days, default=-1),
        "samples": row.selection["samples"],
        "subjects": row.selection["subjects"],
        "models": row.selection["models"],
        "method": row.method,
        "defer": bool(row.selection.get("defer")),
        "opened_by": row.opened_by,
        "ground": _article(states.GROUNDS, row.ground),
        "extension": row.extension,
        "refusal": row.refusal,
        "recipients": (row.recipients or {}).get("list", []),
        "certificate": (row.result or {}).get("certificate"),
        "held": [],
    }
    if state in states.UNDERWAY:
        on_hold = attempts.held(session, settings.audit.attempts) if on_hold is None else on_hold
        shown["held"] = [hold.as_json() for hold in on_hold.values() if row.id in hold.requests]
    if state == State.REFUSED or (row.refusal and state == State.CLOSED):
        refusal = row.refusal or {}
        shown["refusal"] = {
            **refusal,
            "article": states.REFUSALS[refusal["reason"]][0],
            "notice_due": _text(clock.notice_due(row.received, rules)),
            "complaint": settings.refusal.complaint,
        }
    return shown


def listing(workspace: Workspace, every: bool = False, plan: bool = True) -> dict[str, Any]:
    """Return the queue, the most pressing first.

    Args:
        workspace: Where it is.
        every: Closed requests as well.
        plan: Say what waiting saves; that takes reading the datasets.
    """
    wanted = [state for state in State if every or state != State.CLOSED]
    at = workspace.clock()
    with workspace.session() as session:
        rows = queue.in_states(session, wanted)
        on_hold = attempts.held(session, workspace.settings.audit.attempts)
        shown = [describe(session, row, at, workspace.settings, on_hold) for row in rows]
    shown.sort(key=lambda r: (r["state"] == State.CLOSED, r["due"], r["request"]))
    return {"requests": shown, "waiting": waiting(workspace) if plan else []}


@dataclass(frozen=True)
class _Waiting:
    """A request that waits: what it takes out, and until when it can wait."""

    id: str
    deadline: datetime
    taken: Collection[tuple[str, int]]


def waiting(workspace: Workspace) -> list[dict[str, Any]]:
    """Say for each erasable model what its waiting requests cost together and one by one.

    Costs are in units of a retrain on what is retained after all of them (see :mod:`expunge.exact.cost`):
    ``together`` of one batch now, ``one_by_one`` of executing them in turn, in the order of their receipt.
    """
    from expunge.catalog import models
    from expunge.steps.descent import descents
    from expunge.steps.scoping import Ask, concerned, scope_in

    found: list[tuple[_Waiting, Ask, Scope]] = []
    with workspace.session() as session:
        for row in queue.in_states(session, (State.SCOPED, State.APPROVED)):
            ask = Ask.from_record(row.method, row.selection)
            try:
                scope = scope_in(session, workspace.key, ask)
            except InputError:
                continue  # what it selects is gone by now: its run will say so
            deadline = row.due or clock.due(row.received, workspace.settings.rules)
            found.append((_Waiting(row.id, deadline, scope.taken), ask, scope))
        live = {p.name: p for p in models.live(session)}
    by_model: dict[str, list[_Waiting]] = {}
    for request, ask, scope in found:
        with workspace.session() as session:
            heirs = descents(workspace, session, scope.selection.version.dataset_id, scope.taken)
        for published in concerned(workspace, ask, scope):
            if published.plan_digest is not None and published.name not in heirs:
                by_model.setdefault(published.name, []).append(request)
    return [_savings(workspace, live[name], requests) for name, requests in sorted(by_model.items())]


def _savings(workspace: Workspace, published: Published, requests: list[_Waiting]) -> dict[str, Any]:
    from expunge.exact.cost import forget_passes, share
    from expunge.exact.model import ErasableModel
    from expunge.progress import Progress

    before = model = ErasableModel.open(workspace, published, Progress(quiet=True))
    apart = 0.0
    for request in requests:
        after = model.without(request.taken)
        apart += forget_passes(model.graph, after.graph)
        model = after
    together = share(before.graph, model.graph)
    apart /= max(model.graph.passes, 1)  # in one unit: the data shrinks from step to step
    first = min(requests, key=lambda request: request.deadline)
    return {
        "model": published.label,
        "requests": [request.id for request in requests],
        "together": together,
        "one_by_one": round(apart, 6),
        "saves": round(apart - together, 6),
        "bound_by": first.id,
        "due": _text(first.deadline),
        "run_by": _text(clock.must_run_by(first.deadline, workspace.settings.rules)),
    }


def models_due(workspace: Workspace) -> list[str]:
    """Return the models whose repair must be done now, for a request to be answered in time.

    Without those that are held: to repair them would only repeat what the audit did not accept.
    """
    at, rules = workspace.clock(), workspace.settings.rules
    with workspace.session() as session:
        rows = queue.in_states(session, states.UNDERWAY)
        due = [row for row in rows if clock.pressing(row.due or clock.due(row.received, rules), at, rules)]
        on_hold = attempts.held(session, workspace.settings.audit.attempts) if due else {}
        return sorted({name for row in due for name in row.selection["models"]} - set(on_hold))


def _article(table: dict[str, tuple[str, str]], name: str | None) -> dict[str, str] | None:
    return None if name is None else {"name": name, "article": table[name][0]}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
