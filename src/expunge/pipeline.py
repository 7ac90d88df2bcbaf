# SPDX-License-Identifier: Apache-2.0
"""The story of an erasure: request → scope → plan → execute → certify. One request, or several together."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, states
from expunge.catalog import models as catalog
from expunge.catalog import requests as queue
from expunge.catalog.datasets import Selection, erase
from expunge.catalog.locks import ModelLock, model_lock
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.errors import InputError
from expunge.evidence import anchor, journal
from expunge.exact.damage import DamagedData, forget_lists
from expunge.exact.unpublished import destroy_unpublished
from expunge.progress import Progress
from expunge.queue.intake import Opening, actor_name, add_row, new_id, open_request
from expunge.queue.leftout import delete_originals, left_out, take_up, wants_no_originals
from expunge.queue.leftout import preview as preview_left_out
from expunge.queue.repair import repair
from expunge.steps import descent
from expunge.steps.affected import Adopted, Affected, Descendant
from expunge.steps.approximation import Approximation, Settings
from expunge.steps.execution import Execution
from expunge.steps.references import destroy_references
from expunge.steps.scoping import (
    Ask,
    Scope,
    affected_by,
    check_method,
    concerned,
    preview,
    scope_in,
    scope_of,
)
from expunge.steps.settling import fail, settle, settle_executed
from expunge.steps.withdrawal import Withdrawal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

__all__ = ["Ask", "Order", "Scope", "Settings", "dry_run", "execute", "forget"]


@dataclass(frozen=True)
class Order:
    """One request of a batch. All of a batch are for one dataset, by one method, for the same models.

    Attributes:
        request_id: Its id.
        ask: What it asks for.
        queued: Whether it is in the catalog; otherwise it is opened together with its erasure.
        ground, note: Why, of one that is not in the catalog yet; see :class:`expunge.queue.intake.Opening`.
    """

    request_id: str
    ask: Ask
    queued: bool = True
    ground: str | None = None
    note: str | None = None


def dry_run(workspace: Workspace, ask: Ask) -> dict[str, Any]:
    """Say what a forget would do and cost; nothing is changed."""
    check_method(ask)
    scope = scope_of(workspace, ask)
    return preview(ask, scope, affected_by(workspace, ask, scope) if scope.taken else [])


def forget(
    workspace: Workspace,
    ask: Ask,
    progress: Progress,
    began: float | None = None,
    actor: str | None = None,
    ground: str | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    """Forget: a new dataset version, an interim model at once, and the repaired one.

    Where two people must approve, the request is only opened.

    Args:
        workspace: Where datasets and models are known.
        ask: What to forget.
        progress: Where to report.
        began: When the command began (``time.monotonic``), for the interim's seconds.
        actor: Who asks for it; None: the user of the operating system.
        ground: Why, by its name in ``catalog.states.GROUNDS``: it stays on record.
        note: Why, in free text: kept with the request until it is closed.

    Raises:
        InputError: If the request does not fit; nothing was changed.
        BusyError: If another process changes one of the models.
        EnvironmentChanged: If exactness cannot be promised here.
    """
    if ground is not None:
        states.reason_of(states.GROUNDS, ground, "The ground")
    began = time.monotonic() if began is None else began
    who = actor_name(actor)
    check_method(ask)
    anchor.check(workspace)
    scope = scope_of(workspace, ask)
    if not scope.taken:
        return _again(workspace, ask, scope.selection, progress, who)
    if ask.confirm is not None and not ask.confirm(preview(ask, scope, affected_by(workspace, ask, scope))):
        raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
    if workspace.settings.approval.four_eyes:
        return _only_opened(open_request(workspace, ask, Opening(actor=who, ground=ground, note=note)))
    order = Order(new_id(), ask, queued=False, ground=ground, note=note)
    outcomes = execute(workspace, [order], progress, began, who)
    if not outcomes:  # while we waited for the locks another erasure took it all
        return _again(workspace, ask, scope_of(workspace, ask).selection, progress, who)
    return outcomes[0]


def execute(
    workspace: Workspace, orders: Sequence[Order], progress: Progress, began: float, actor: str
) -> list[dict[str, Any]]:
    """Erase for several requests, each with its own dataset version, then bring each model up to date once.

    Returns:
        For each request that was executed here its outcome, in the form of ``forget --json``. Left out are
        those that another process took first, and a new one of which nothing is left to erase.

    Raises:
        InputError: If the requests do not fit; nothing was changed.
        BusyError: If another process changes one of the models.
        EnvironmentChanged: If exactness cannot be promised here.
    """
    first = orders[0].ask
    seen = [scope_of(workspace, order.ask) for order in orders]
    every = frozenset().union(*(scope.taken for scope in seen))
    names = [p.name for p in concerned(workspace, first, seen[0], every)]
    with ExitStack() as stack:
        locks = {
            name: stack.enter_context(model_lock(workspace.locks, name, "forget", urgent=True))
            for name in names
        }
        # While we waited for the locks another erasure may have changed everything: look again.
        scopes = [scope_of(workspace, order.ask) for order in orders]
        gone = frozenset().union(*(scope.taken for scope in scopes))
        if not gone and not any(order.queued for order in orders):
            return []
        found = affected_by(workspace, first, scopes[0], tuple(locks), gone) if locks and gone else []
        ids = _model_ids(workspace, found)
        _check_environments(found, ids, first, progress)
        journal.check_ready(workspace)  # without it there would be no evidence in the end
        started = _erase(workspace, orders, scopes, sorted(locks), actor)
        try:
            return _execute_all(workspace, started, found, ids, locks, progress, began)
        except Exception as error:
            mine = [order.request_id for order, _ in started]
            fail(workspace, mine, error)
            if isinstance(error, DamagedData):
                raise error.during(mine) from error
            raise


def _check_environments(
    found: Sequence[Affected | Adopted | Descendant], ids: dict[str, int], ask: Ask, progress: Progress
) -> None:
    for a in found:
        if not isinstance(a, Affected):
            continue
        a.after.progress = progress
        if ask.method != "retrain" and a.after.retained != a.published.retained_digest:
            a.after.check_environment(ids[a.published.name])


def _erase(
    workspace: Workspace, orders: Sequence[Order], scopes: Sequence[Scope], models: list[str], actor: str
) -> list[tuple[Order, Scope]]:
    """Erase for each request in turn, in one transaction; returns those that were still to be executed."""
    started: list[tuple[Order, Scope]] = []
    at = workspace.clock()
    with workspace.session(write=True) as session:
        queue.check_clock(session, at, workspace.settings.rules)
        for order, seen in zip(orders, scopes, strict=True):
            # What an earlier request of this batch took is no longer there for a later one.
            scope = scope_in(session, workspace.key, order.ask) if started else seen
            if not order.queued:
                deadline = clock.due(at, workspace.settings.rules)
                row = add_row(session, order.ask, scope, order.request_id, models, (at, deadline), at, actor)
                row.ground, row.note = order.ground, order.note
                queue.move(session, row, State.APPROVED, at, actor, "forget")
            else:
                row = catalog.get_request(session, order.request_id)
            if _start(session, workspace, row, order, scope, models, actor):
                started.append((order, scope))
    return started


def _start(
    session: Session,
    workspace: Workspace,
    row: RequestRow,
    order: Order,
    scope: Scope,
    models: list[str],
    actor: str,
) -> bool:
    """Let one request run, if it still waits for that: of two processes one finds that it does not."""
    state, at = State(row.state), workspace.clock()
    if row.version_after is not None or state not in (State.APPROVED, State.FAILED, State.RESUMED):
        return False
    current = scope.selection.version
    earlier = set(scope.selection.already_erased_by.values())
    number = current.number
    if scope.taken:
        descent.record(workspace, session, current.dataset_id, scope.taken, row.id)
        version = erase(
            session,
            current,
            set(scope.selection.paths),
            set(scope.selection.subjects),
            request_id=row.id,
            key=workspace.key,
        )
        number = version.number
    else:  # erased before: it waits for what that request waits for
        models = sorted({m for w in catalog.unfinished(session) if w.id in earlier for m in w.models})
    if state == State.FAILED:
        queue.move(session, row, State.RESUMED, at, actor)
    row.version_before, row.version_after = current.number, number
    row.selection = {
        **row.selection,
        "samples": scope.samples,
        "subjects": len(scope.selection.subjects),
        "models": models,
    }
    detail = {"dataset": f"{current.name}@{number}", "erased_before_by": sorted(earlier)}
    queue.move(session, row, State.RUNNING, at, actor, detail=detail)
    return True


def _execute_all(
    workspace: Workspace,
    started: Sequence[tuple[Order, Scope]],
    found: Sequence[Affected | Adopted | Descendant],
    ids: dict[str, int],
    locks: dict[str, ModelLock],
    progress: Progress,
    began: float,
) -> list[dict[str, Any]]:
    if not started:
        return []
    executions = _executions(workspace, started, found, ids, locks, progress, began)
    for execution in executions:  # all of them first: repairs take their time
        execution.publish_interim()
    destroy_unpublished(workspace, locks)
    destroy_references(workspace)
    forget_lists(workspace)
    entries: list[dict[str, Any]] = []
    trouble: list[InputError] = []
    for lock in locks.values():
        lock.say("repair")  # from here on another erasure may preempt this one, whichever model it wants
    defer = started[0][0].ask.defer
    for execution in executions:
        waits = defer or any(lock.preempted() for lock in locks.values())
        try:
            entries.append(execution.repair(waits))
        except InputError as error:  # the other models need not wait for this one
            trouble.append(error)
    outcomes = []
    for order, scope in started:
        if order.ask.delete_originals:
            delete_originals(workspace, order.request_id, progress)
        outcome = settle(workspace, order.request_id, entries)
        outcomes.append({**outcome, "already_erased_by": scope.selection.already_erased_by})
    for other in _waiting(workspace, locks, {order.request_id for order, _ in started}):
        settle(workspace, other, None)  # what it waited for was done with this one
    settle_executed(workspace, besides={order.request_id for order, _ in started})
    for problem in trouble:
        raise problem
    return outcomes


def _executions(
    workspace: Workspace,
    started: Sequence[tuple[Order, Scope]],
    found: Sequence[Affected | Adopted | Descendant],
    ids: dict[str, int],
    locks: dict[str, ModelLock],
    progress: Progress,
    began: float,
) -> list[Execution | Approximation | Withdrawal]:
    """One execution for each model, in the name of the last request of the batch."""
    last = started[-1][0]
    ask, subjects = last.ask, {s for _, scope in started for s in scope.selection.subjects}
    executions: list[Execution | Approximation | Withdrawal] = []
    for a in found:
        name = a.published.name
        if isinstance(a, Descendant):
            request = last.request_id
            executions.append(Withdrawal(workspace, a.published, a.descent, ids[name], request, progress))
            continue
        if isinstance(a, Adopted):
            executions.append(
                Approximation(
                    workspace, a.published, ids[name], locks[name], last.request_id, ask.method, progress,
                    ask.settings, a.cost(ask.method), subjects, ask.class_name,
                )
            )  # fmt: skip
            continue
        executions.append(
            Execution(
                a.after,
                a.published,
                ids[name],
                locks[name],
                last.request_id,
                retrain=ask.method == "retrain",
                predicted=a.cost(ask.method),
                began=began,
                preempted=lambda: any(lock.preempted() for lock in locks.values()),
            )
        )
    return executions


def _waiting(workspace: Workspace, models: Container[str], but: Container[str]) -> list[str]:
    """The other unfinished requests that concern no other models than these."""
    with workspace.session() as session:
        waiting = catalog.unfinished(session)
    return [w.id for w in waiting if w.id not in but and all(name in models for name in w.models)]


def _model_ids(workspace: Workspace, found: Sequence[Affected | Adopted | Descendant]) -> dict[str, int]:
    with workspace.session(write=True) as session:
        return {
            a.published.name: catalog.ensure_model(session, a.published.name, a.published.task) for a in found
        }


def _only_opened(opened: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a forget that a second person must approve."""
    return {
        **opened,
        "models": [],
        "certificate": None,
        "originals_left": None,
        "next": f"Somebody else approves it with: expunge request approve {opened['request']}",
    }


def _again(
    workspace: Workspace, ask: Ask, selection: Selection, progress: Progress, actor: str
) -> dict[str, Any]:
    """All that was asked for is erased already; if a request for it is unfinished, finish it.

    Unfinished is also one that left out a model which still holds the data, if that model is meant now.
    """
    first = next(iter(selection.already_erased_by.values()))
    only = {ref.partition("@")[0] for ref in ask.models}
    further = {r: left_out(workspace, r, only) for r in dict.fromkeys(selection.already_erased_by.values())}
    further = {request_id: names for request_id, names in further.items() if names and not ask.defer}
    if further and ask.confirm is not None:
        shown = [e for r, names in further.items() for e in preview_left_out(workspace, r, names, ask.method)]
        said = preview(ask, Scope(selection, frozenset()), [])
        if not ask.confirm({**said, "models": shown}):
            raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
    for request_id, names in further.items():
        take_up(workspace, request_id, names, actor)
    with workspace.session() as session:
        row = session.get(RequestRow, first)
        unfinished = row is not None and row.state in states.UNDERWAY and not ask.defer
        mine = list(row.selection.get("models", [])) if row is not None and unfinished else []
    names = sorted({*mine, *(name for found in further.values() for name in found)})
    again: list[dict[str, Any]] = []
    if names:
        done = repair(workspace, names, progress, ask.method == "retrain", (ask.method, ask.settings))
        again = [e for e in done["models"] if e["plan"] is None or e["parent"].partition("@")[0] not in mine]
    for request_id in (first, *further):
        if ask.delete_originals or wants_no_originals(workspace, request_id):
            delete_originals(workspace, request_id, progress)
    outcome = (
        settle(workspace, first, None, resumed=unfinished)
        if row is not None
        else {"request": first, "state": "closed"}
    )
    return {**outcome, "models": again, "already_erased_by": selection.already_erased_by}
