# SPDX-License-Identifier: Apache-2.0
"""Runs the queue: what waits together is executed together, each request with its own evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, states
from expunge.catalog import requests as queue
from expunge.catalog.models import get_request
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.errors import BusyError, ExpungeError, InputError, Preempted
from expunge.evidence import anchor, journal
from expunge.pipeline import Order, execute, forget
from expunge.progress import Progress
from expunge.queue.attempts import Held, How, Other, held, other_way
from expunge.queue.intake import actor_name, approve
from expunge.queue.leftout import delete_originals, left_out, take_up
from expunge.queue.repair import repair
from expunge.steps.entries import finished
from expunge.steps.outcome import Request
from expunge.steps.scoping import Ask
from expunge.steps.settling import fail, settle

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Chosen:
    """What a run is about.

    Attributes:
        ids: Requests by name; only these are run although their unlearning is held.
        due: Those that must be executed now: due within the lead time of the workspace.
        every: Everything that is approved, and every repair that waits.
        other: For requests by name that have begun: how to unlearn, in place of what they say.
    """

    ids: Sequence[str] = ()
    due: bool = False
    every: bool = False
    other: Other = field(default_factory=Other)


@dataclass(frozen=True)
class Failure:
    """Requests that could not be finished, and why."""

    ids: Sequence[str]
    error: ExpungeError


@dataclass(frozen=True)
class Ran:
    """What a run did.

    Attributes:
        outcomes: Of each request, in the form of ``forget --json``.
        batches: The outcomes again, as the requests were executed together.
        failed: What could not be done.
        held: What was not tried again: a person must decide.
    """

    outcomes: dict[str, dict[str, Any]]
    batches: list[list[dict[str, Any]]]
    failed: list[Failure]
    held: list[Held] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what ``request run --json`` prints."""
        together = [
            {"dataset": joint[-1]["dataset"], "requests": [o["request"] for o in joint]}
            for joint in self.batches
        ]
        failed = [{"requests": list(f.ids), **f.error.as_json()} for f in self.failed]
        held = [hold.as_json() for hold in self.held]
        return {"requests": list(self.outcomes.values()), "batches": together, "failed": failed, "held": held}


@dataclass
class _Queue:
    """The requests to work on, by what is to be done."""

    fresh: list[Order] = field(default_factory=list)
    underway: list[tuple[str, list[str], How | None]] = field(default_factory=list)  # with their models
    ending: list[tuple[str, bool]] = field(default_factory=list)  # with whether originals are to be deleted
    held: dict[str, Held] = field(default_factory=dict)  # by model


def run(
    workspace: Workspace,
    chosen: Chosen,
    progress: Progress,
    actor: str | None = None,
    began: float | None = None,
) -> Ran:
    """Execute requests: first finish what was begun, then all that fits together as one batch.

    Raises:
        InputError: If nothing was chosen, or a request that was named cannot be run.
    """
    began = time.monotonic() if began is None else began
    who = actor_name(actor)
    if sum((bool(chosen.ids), chosen.due, chosen.every)) != 1:
        raise InputError("What shall run?", "Name requests, or give --due or --all.", "Choose one of them.")
    anchor.check(workspace)
    journal.flush(workspace)  # the last event of a process that died may have left nothing else to do
    work = _choose(workspace, chosen)
    outcomes: dict[str, dict[str, Any]] = {}
    failed: list[Failure] = []
    for request_id, models, how in work.underway:
        _take_up(workspace, request_id, models, how, progress, outcomes, failed)
    for request_id, delete in work.ending:
        if chosen.ids and (further := left_out(workspace, request_id)):
            take_up(workspace, request_id, further, who)
            how = _how(workspace, request_id, chosen.other)
            _take_up(workspace, request_id, further, how, progress, outcomes, failed)
            continue
        if delete:
            delete_originals(workspace, request_id, progress)
        outcomes[request_id] = settle(workspace, request_id, None, resumed=True)
    batches: list[list[dict[str, Any]]] = []
    for orders in _grouped(work.fresh):
        batches += [joint for joint in _batch(workspace, orders, progress, began, who, failed) if joint]
    outcomes.update({outcome["request"]: outcome for joint in batches for outcome in joint})
    return Ran(outcomes, batches, failed, list(work.held.values()))


def run_one(workspace: Workspace, request: Request | str, actor: str | None = None) -> dict[str, Any]:
    """Approve a request if one person may, run it alone, and return its outcome as ``forget`` does.

    Raises:
        ExpungeError: What keeps it from being executed.
    """
    request_id = request if isinstance(request, str) else request.id
    if isinstance(request, Request) and not request.record.get("samples"):
        return forget(workspace, request.ask, Progress(quiet=True), actor=actor)  # erased before
    with workspace.session() as session:
        scoped = get_request(session, request_id).state == State.SCOPED
    if scoped and not workspace.settings.approval.four_eyes:
        approve(workspace, request_id, actor)
    done = run(workspace, Chosen(ids=(request_id,)), Progress(quiet=True), actor)
    for failure in done.failed:
        raise failure.error
    return {"already_erased_by": {}, **done.outcomes[request_id]}


def _choose(workspace: Workspace, chosen: Chosen) -> _Queue:
    at, rules, work = workspace.clock(), workspace.settings.rules, _Queue()
    on_hold: dict[str, Held] = {}
    with workspace.session() as session:
        queue.check_clock(session, at, rules)
        if chosen.ids:
            rows = [get_request(session, request_id) for request_id in dict.fromkeys(chosen.ids)]
            for row in rows:
                _check_runnable(row)
        else:
            rows = queue.in_states(session, (State.APPROVED, *states.UNDERWAY, *states.ENDING))
            on_hold = held(session, workspace.settings.audit.attempts)
        for row in rows:
            deadline = row.due or clock.due(row.received, rules)
            pressing = not chosen.due or clock.pressing(deadline, at, rules)
            if row.state in states.ENDING:
                asked = row.selection.get("asked") or {}
                work.ending.append((row.id, bool(asked.get("delete_originals"))))
            elif row.version_after is None:
                if chosen.other:
                    raise InputError(f"{row.id} has not begun.", "It is executed as it was opened.",
                                     "Leave the method out, or use `expunge forget`.")  # fmt: skip
                if row.state != State.CLOSED and pressing:
                    work.fresh.append(Order(row.id, Ask.from_record(row.method, row.selection)))
            elif row.state in states.UNDERWAY and (pressing or not row.selection.get("defer")):
                models = [name for name in row.selection["models"] if name not in on_hold]
                work.held |= {name: on_hold[name] for name in row.selection["models"] if name in on_hold}
                if not _only_held(row, on_hold):
                    how = other_way(row, chosen.other) if chosen.other else None
                    work.underway.append((row.id, models, how))
    return work


def _only_held(row: RequestRow, on_hold: Container[str]) -> bool:
    """Whether nothing of a request is left to do but what is held."""
    entries = (row.result or {}).get("models", [])
    done = {m["model"].partition("@")[0] for m in entries if finished(m)}
    left = set(row.selection["models"]) - done
    return bool(left) and all(name in on_hold for name in left)


def _how(workspace: Workspace, request_id: str, other: Other) -> How | None:
    with workspace.session() as session:
        return other_way(get_request(session, request_id), other) if other else None


def _check_runnable(row: RequestRow) -> None:
    if row.state in (State.OPEN, State.SCOPED):
        raise InputError(
            f"{row.id} is not approved.", "", f"Approve it with: expunge request approve {row.id}"
        )
    if row.state in (State.REFUSED, State.CLOSED):
        raise InputError(f"{row.id} is {row.state}.", "There is nothing to run.", "")


def _take_up(
    workspace: Workspace,
    request_id: str,
    models: list[str],
    how: How | None,
    progress: Progress,
    outcomes: dict[str, dict[str, Any]],
    failed: list[Failure],
) -> None:
    """Finish what an earlier command began: it was killed, it failed, or it left the repair for later."""
    with workspace.session() as session:
        row = get_request(session, request_id)
        still = row.state in states.UNDERWAY
        delete = bool((row.selection.get("asked") or {}).get("delete_originals"))
    try:
        if still and models:
            repair(workspace, models, progress, how is not None and how[0] == "retrain", how)
        if delete:
            delete_originals(workspace, request_id, progress)
        outcomes[request_id] = settle(workspace, request_id, None, resumed=True)
    except ExpungeError as error:
        if not isinstance(error, BusyError | Preempted):
            fail(workspace, [request_id], error)
        failed.append(Failure((request_id,), error))


def _grouped(orders: Sequence[Order]) -> list[list[Order]]:
    """What can be executed together: of one dataset, for the same models, in the same way.

    Requests for a class are kept apart from those for people: an approximate method treats them differently.
    Those whose repair may wait come first: a later training is theirs, too.
    """
    groups: dict[str, list[Order]] = {}
    for order in orders:
        ask = order.ask
        how = [ask.dataset, ask.method, sorted(ask.models), ask.class_name, ask.defer, ask.settings.as_json()]
        groups.setdefault(json.dumps(how, sort_keys=True, default=str), []).append(order)
    return sorted(groups.values(), key=lambda orders: not orders[0].ask.defer)


def _batch(
    workspace: Workspace,
    orders: Sequence[Order],
    progress: Progress,
    began: float,
    actor: str,
    failed: list[Failure],
) -> list[list[dict[str, Any]]]:
    """Execute requests together, or one by one where one of them does not fit: it holds up nobody."""
    try:
        return [execute(workspace, orders, progress, began, actor)]
    except InputError as error:
        if _begun(workspace, orders):  # the erasure stands; what is left of it waits
            failed.append(Failure(tuple(order.request_id for order in orders), error))
            return [[]]
        if len(orders) > 1:
            progress.say("These requests do not fit together: they are executed one by one.")
            alone = [_batch(workspace, [order], progress, began, actor, failed) for order in orders]
            return [joint for done in alone for joint in done]
        fail(workspace, [orders[0].request_id], error)
        failed.append(Failure((orders[0].request_id,), error))
    except ExpungeError as error:
        failed.append(Failure(tuple(order.request_id for order in orders), error))
    return [[]]


def _begun(workspace: Workspace, orders: Sequence[Order]) -> bool:
    """Whether the data of these requests is out of the dataset already."""
    with workspace.session() as session:
        return any(get_request(session, o.request_id).version_after is not None for o in orders)
