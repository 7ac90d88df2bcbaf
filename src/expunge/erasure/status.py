# SPDX-License-Identifier: Apache-2.0
"""Reports on the queue: the status and deadline of each request, and the savings from waiting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, request_store, states
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.erasure import holds
from expunge.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.catalog.model_store import ModelVersion
    from expunge.erasure.holds import HeldModel
    from expunge.erasure.scope import Scope
    from expunge.settings import WorkspaceSettings
    from expunge.workspace import Workspace


def describe(
    session: Session,
    row: RequestRow,
    at: datetime,
    settings: WorkspaceSettings,
    on_hold: Mapping[str, HeldModel] | None = None,
) -> dict[str, Any]:
    """Return the status of a request in the form of ``request list --json``.

    Args:
        session: The session in which the row was read.
        row: The request.
        at: The present moment.
        settings: Settings of the workspace.
        on_hold: The result of :func:`expunge.erasure.holds.held`; None: it is computed.
    """
    rules, state = settings.rules, State(row.state)
    deadline = row.due or clock.due(row.received, rules)
    pending = state in (*states.WAITING_STATES, *states.RUNNING_STATES, State.EXECUTED)
    days_left = clock.days_left(deadline, at, rules)
    record: dict[str, Any] = {
        "request": row.id,
        "state": row.state,
        "dataset": request_store.dataset_name(session, row),
        "received": _text(row.received),
        "due": _text(deadline),
        "run_by": _text(clock.must_run_by(deadline, rules)),
        "days_left": days_left if pending else None,
        "overdue": pending and at > deadline,
        "reminders": [day.isoformat() for day in clock.reminders(deadline, rules)] if pending else [],
        "remind": pending and days_left <= max(rules.reminder_days, default=-1),
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
    if state in states.RUNNING_STATES:
        on_hold = holds.held(session, settings.audit.attempts) if on_hold is None else on_hold
        record["held"] = [hold.as_json() for hold in on_hold.values() if row.id in hold.requests]
    if state == State.REFUSED or (row.refusal and state == State.CLOSED):
        refusal = row.refusal or {}
        record["refusal"] = {
            **refusal,
            "article": states.REFUSALS[refusal["reason"]][0],
            "notice_due": _text(clock.notice_due(row.received, rules)),
            "complaint": settings.refusal.complaint,
        }
    return record


def list_requests(workspace: Workspace, every: bool = False, plan: bool = True) -> dict[str, Any]:
    """Return the queue in the form of ``request list --json``, the earliest deadline first.

    Args:
        workspace: The workspace of the requests.
        every: Include closed requests.
        plan: Include the savings from waiting, for which the datasets are read.
    """
    states_listed = [state for state in State if every or state != State.CLOSED]
    at = workspace.clock()
    with workspace.session() as session:
        rows = request_store.requests_in_states(session, states_listed)
        on_hold = holds.held(session, workspace.settings.audit.attempts)
        records = [describe(session, row, at, workspace.settings, on_hold) for row in rows]
    records.sort(key=lambda r: (r["state"] == State.CLOSED, r["due"], r["request"]))
    return {"requests": records, "waiting": waiting_costs(workspace) if plan else []}


@dataclass(frozen=True)
class _WaitingRequest:
    """A request that has not begun.

    Attributes:
        id: Id of the request.
        deadline: Moment at which it is due.
        taken: (path, version of arrival) of the rows that it takes out.
    """

    id: str
    deadline: datetime
    taken: Collection[tuple[str, int]]


def waiting_costs(workspace: Workspace) -> list[dict[str, Any]]:
    """Return for each erasable model the cost of its waiting requests, in one batch and one by one.

    Costs are in units of a retrain on the data retained after all of them (see :mod:`expunge.exact.cost`):
    ``together`` for one batch now, ``one_by_one`` for one execution per request in the order of receipt.
    """
    from expunge.catalog import model_store
    from expunge.erasure.descent import descents_before_erasure
    from expunge.erasure.scope import ErasureRequest, concerned_models, scope_in_session

    found: list[tuple[_WaitingRequest, ErasureRequest, Scope]] = []
    with workspace.session() as session:
        for row in request_store.requests_in_states(session, (State.SCOPED, State.APPROVED)):
            request = ErasureRequest.from_record(row.method, row.selection)
            try:
                scope = scope_in_session(session, workspace.key, request)
            except InputError:
                continue  # the selected data is gone by now; the request's run reports it
            deadline = row.due or clock.due(row.received, workspace.settings.rules)
            found.append((_WaitingRequest(row.id, deadline, scope.taken), request, scope))
        live = {p.name: p for p in model_store.newest_versions(session)}
    by_model: dict[str, list[_WaitingRequest]] = {}
    for waiting_request, request, scope in found:
        dataset_id = scope.selection.version.dataset_id
        with workspace.session() as session:
            descents = descents_before_erasure(workspace, session, dataset_id, scope.taken)
        for published in concerned_models(workspace, request, scope):
            if published.plan_digest is not None and published.name not in descents:
                by_model.setdefault(published.name, []).append(waiting_request)
    return [_savings(workspace, live[name], requests) for name, requests in sorted(by_model.items())]


def _savings(
    workspace: Workspace, published: ModelVersion, requests: list[_WaitingRequest]
) -> dict[str, Any]:
    """Return the costs of the waiting requests of one model."""
    from expunge.exact.cost import erasure_passes, relative_cost
    from expunge.exact.model import ErasableModel
    from expunge.progress import Progress

    before = model = ErasableModel.open(workspace, published, Progress(quiet=True))
    one_by_one = 0.0
    for request in requests:
        after = model.without(request.taken)
        one_by_one += erasure_passes(model.graph, after.graph)
        model = after
    together = relative_cost(before.graph, model.graph)
    one_by_one /= max(model.graph.passes, 1)  # the unit is the same for both: a retrain after all requests
    first = min(requests, key=lambda request: request.deadline)
    return {
        "model": published.label,
        "requests": [request.id for request in requests],
        "together": together,
        "one_by_one": round(one_by_one, 6),
        "saves": round(one_by_one - together, 6),
        "bound_by": first.id,
        "due": _text(first.deadline),
        "run_by": _text(clock.must_run_by(first.deadline, workspace.settings.rules)),
    }


def models_due(workspace: Workspace) -> list[str]:
    """Return the names of the models that must be repaired now to meet the deadline of a request.

    Held models are left out: their repair would only repeat a rejected attempt.
    """
    at, rules = workspace.clock(), workspace.settings.rules
    with workspace.session() as session:
        rows = request_store.requests_in_states(session, states.RUNNING_STATES)
        due = [
            row for row in rows if clock.must_run_now(row.due or clock.due(row.received, rules), at, rules)
        ]
        on_hold = holds.held(session, workspace.settings.audit.attempts) if due else {}
        return sorted({name for row in due for name in row.selection["models"]} - set(on_hold))


def _article(table: dict[str, tuple[str, str]], name: str | None) -> dict[str, str] | None:
    """Return a ground with its article of the GDPR."""
    return None if name is None else {"name": name, "article": table[name][0]}


def _text(moment: datetime) -> str:
    """Return a moment in ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds")
