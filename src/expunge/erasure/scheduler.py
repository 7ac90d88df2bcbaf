# SPDX-License-Identifier: Apache-2.0
"""Step 3 of a request: run the queue.

Requests that fit together are executed as one batch; each keeps its own evidence.
"""

from __future__ import annotations

import json
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, request_store, states
from expunge.catalog.model_store import get_request
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.erasure.closing import close_request, fail
from expunge.erasure.execution import QueuedRequest, execute, forget
from expunge.erasure.holds import HeldModel, MethodOverride, MethodSpec, held, overridden_method
from expunge.erasure.intake import actor_name, approve
from expunge.erasure.model_results import finished
from expunge.erasure.outcome import Request
from expunge.erasure.repair import repair
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.skipped_models import add_models, delete_originals, find_left_out
from expunge.errors import BusyError, ExpungeError, InputError, Preempted
from expunge.evidence import anchor, journal
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class QueueSelection:
    """The requests of a run; exactly one of ``ids``, ``due`` and ``every`` is given.

    Attributes:
        ids: Ids of requests; these run even if their unlearning is held.
        due: The requests that must be executed now: due within the lead time of the workspace.
        every: All approved requests and all repairs that wait.
        other: Method and settings that replace those of requests in ``ids`` that have begun.
    """

    ids: Sequence[str] = ()
    due: bool = False
    every: bool = False
    other: MethodOverride = field(default_factory=MethodOverride)


@dataclass(frozen=True)
class Failure:
    """Requests that could not be finished, with the error."""

    ids: Sequence[str]
    error: ExpungeError


@dataclass(frozen=True)
class QueueRun:
    """The results of a run.

    Attributes:
        outcomes: Outcome of each request by its id, in the form of ``forget --json``.
        batches: The outcomes of the requests that were executed together, batch by batch.
        failed: Requests that could not be finished.
        held: Models that were skipped because a person must decide.
    """

    outcomes: dict[str, dict[str, Any]]
    batches: list[list[dict[str, Any]]]
    failed: list[Failure]
    held: list[HeldModel] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that ``request run --json`` prints."""
        batches = [
            {"dataset": outcomes[-1]["dataset"], "requests": [o["request"] for o in outcomes]}
            for outcomes in self.batches
        ]
        failed = [{"requests": list(f.ids), **f.error.as_json()} for f in self.failed]
        held = [hold.as_json() for hold in self.held]
        return {"requests": list(self.outcomes.values()), "batches": batches, "failed": failed, "held": held}


@dataclass
class _Work:
    """The selected requests, by the work that is left.

    Attributes:
        fresh: Approved requests that have not begun.
        underway: (request id, names of its models, replaced method) of requests that have begun.
        ending: (request id, whether its originals are to be deleted) of executed requests.
        held: Models that are skipped, by name.
    """

    fresh: list[QueuedRequest] = field(default_factory=list)
    underway: list[tuple[str, list[str], MethodSpec | None]] = field(default_factory=list)
    ending: list[tuple[str, bool]] = field(default_factory=list)
    held: dict[str, HeldModel] = field(default_factory=dict)


def run(
    workspace: Workspace,
    chosen: QueueSelection,
    progress: Progress,
    actor: str | None = None,
    began: float | None = None,
) -> QueueRun:
    """Execute requests: finish those that have begun, then execute the others in batches.

    Args:
        workspace: The workspace of the requests.
        chosen: The requests to run.
        progress: Receives progress reports.
        actor: Name of the person who runs them; None: the user of the operating system.
        began: Start of the command (``time.monotonic``); None: now.

    Raises:
        InputError: If the selection is empty or ambiguous, or a request in it cannot be run.
    """
    began = time.monotonic() if began is None else began
    who = actor_name(actor)
    if sum((bool(chosen.ids), chosen.due, chosen.every)) != 1:
        raise InputError(
            "It is unclear which requests are to be run.",
            "Exactly one of request ids, --due and --all must be given.",
            "Choose one of them.",
        )
    anchor.check(workspace)
    journal.flush(workspace)  # events left by a crashed run come first, and may be all that is left to do
    work = _select(workspace, chosen)
    outcomes: dict[str, dict[str, Any]] = {}
    failed: list[Failure] = []
    for request_id, models, override in work.underway:
        _resume(workspace, request_id, models, override, progress, outcomes, failed)
    for request_id, delete in work.ending:
        if chosen.ids and (further := find_left_out(workspace, request_id)):
            add_models(workspace, request_id, further, who)
            override = _override(workspace, request_id, chosen.other)
            _resume(workspace, request_id, further, override, progress, outcomes, failed)
            continue
        if delete:
            delete_originals(workspace, request_id, progress)
        outcomes[request_id] = close_request(workspace, request_id, None, resumed=True)
    batches: list[list[dict[str, Any]]] = []
    for batch in _group(work.fresh):
        executed = _execute_batch(workspace, batch, progress, began, who, failed)
        batches += [batch_outcomes for batch_outcomes in executed if batch_outcomes]
    outcomes.update({outcome["request"]: outcome for batch_outcomes in batches for outcome in batch_outcomes})
    return QueueRun(outcomes, batches, failed, list(work.held.values()))


def run_one(workspace: Workspace, request: Request | str, actor: str | None = None) -> dict[str, Any]:
    """Approve a request unless a second person must, run it alone, and return its outcome.

    Args:
        workspace: The workspace of the request.
        request: The opened request, or its id.
        actor: Name of the person who approves and runs it; None: the user of the operating system.

    Returns:
        The outcome in the form of ``forget --json``.

    Raises:
        ExpungeError: If the request cannot be executed.
    """
    request_id = request if isinstance(request, str) else request.id
    if isinstance(request, Request) and not request.record.get("samples"):
        return forget(workspace, request.ask, Progress(quiet=True), actor=actor)  # erased before
    with workspace.session() as session:
        scoped = get_request(session, request_id).state == State.SCOPED
    if scoped and not workspace.settings.approval.four_eyes:
        approve(workspace, request_id, actor)
    done = run(workspace, QueueSelection(ids=(request_id,)), Progress(quiet=True), actor)
    for failure in done.failed:
        raise failure.error
    return {"already_erased_by": {}, **done.outcomes[request_id]}


def _select(workspace: Workspace, chosen: QueueSelection) -> _Work:
    """Return the selected requests, by the work that is left.

    Raises:
        InputError: If a request cannot be run, or the method of one that has not begun is to be replaced.
    """
    at, rules, work = workspace.clock(), workspace.settings.rules, _Work()
    on_hold: dict[str, HeldModel] = {}
    with workspace.session() as session:
        request_store.check_clock(session, at, rules)
        if chosen.ids:
            rows = [get_request(session, request_id) for request_id in dict.fromkeys(chosen.ids)]
            for row in rows:
                _check_runnable(row)
        else:
            rows = request_store.requests_in_states(
                session, (State.APPROVED, *states.RUNNING_STATES, *states.EXECUTED_STATES)
            )
            on_hold = held(session, workspace.settings.audit.attempts)
        for row in rows:
            deadline = row.due or clock.due(row.received, rules)
            pressing = not chosen.due or clock.must_run_now(deadline, at, rules)
            if row.state in states.EXECUTED_STATES:
                work.ending.append((row.id, _deletes_originals(row)))
            elif row.version_after is None:
                if chosen.other:
                    raise InputError(f"{row.id} has not begun.", "It is executed as it was opened.",
                                     "Leave the method out, or use `expunge forget`.")  # fmt: skip
                if row.state != State.CLOSED and pressing:
                    work.fresh.append(
                        QueuedRequest(row.id, ErasureRequest.from_record(row.method, row.selection))
                    )
            elif row.state in states.RUNNING_STATES and (pressing or not row.selection.get("defer")):
                models = [name for name in row.selection["models"] if name not in on_hold]
                work.held |= {name: on_hold[name] for name in row.selection["models"] if name in on_hold}
                if not _only_held(row, on_hold):
                    override = overridden_method(row, chosen.other) if chosen.other else None
                    work.underway.append((row.id, models, override))
    return work


def _deletes_originals(row: RequestRow) -> bool:
    """Return whether a request asks for its originals to be deleted."""
    return bool((row.selection.get("asked") or {}).get("delete_originals"))


def _only_held(row: RequestRow, on_hold: Container[str]) -> bool:
    """Return whether all unfinished models of a request are held."""
    entries = (row.result or {}).get("models", [])
    done = {m["model"].partition("@")[0] for m in entries if finished(m)}
    unfinished = set(row.selection["models"]) - done
    return bool(unfinished) and all(name in on_hold for name in unfinished)


def _override(workspace: Workspace, request_id: str, other: MethodOverride) -> MethodSpec | None:
    """Return the method and settings that replace those of a request; None: its own."""
    with workspace.session() as session:
        return overridden_method(get_request(session, request_id), other) if other else None


def _check_runnable(row: RequestRow) -> None:
    """Raise an error for a request that is not approved, or that is finished."""
    if row.state in (State.OPEN, State.SCOPED):
        raise InputError(
            f"{row.id} is not approved.", "", f"Approve it with: expunge request approve {row.id}"
        )
    if row.state in (State.REFUSED, State.CLOSED):
        raise InputError(f"{row.id} is {row.state}.", "There is nothing to run.", "")


def _resume(
    workspace: Workspace,
    request_id: str,
    models: list[str],
    override: MethodSpec | None,
    progress: Progress,
    outcomes: dict[str, dict[str, Any]],
    failed: list[Failure],
) -> None:
    """Finish a request whose earlier run was killed, failed or deferred the repair.

    Adds to ``outcomes`` or ``failed``.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        underway = row.state in states.RUNNING_STATES
        delete = _deletes_originals(row)
    try:
        if underway and models:
            repair(workspace, models, progress, override is not None and override[0] == "retrain", override)
        if delete:
            delete_originals(workspace, request_id, progress)
        outcomes[request_id] = close_request(workspace, request_id, None, resumed=True)
    except ExpungeError as error:
        if not isinstance(error, BusyError | Preempted):
            fail(workspace, [request_id], error)
        failed.append(Failure((request_id,), error))


def _group(requests: Sequence[QueuedRequest]) -> list[list[QueuedRequest]]:
    """Return batches of requests with the same dataset, models, method and settings.

    Requests for a class are kept apart from those for subjects: an approximate method treats them
    differently. Deferred requests come first, so that the training of a later batch serves them too.
    """
    batches: dict[str, list[QueuedRequest]] = {}
    for queued in requests:
        request = queued.ask
        common = [
            request.dataset,
            request.method,
            sorted(request.models),
            request.class_name,
            request.defer,
            request.settings.as_json(),
        ]
        batches.setdefault(json.dumps(common, sort_keys=True, default=str), []).append(queued)
    return sorted(batches.values(), key=lambda batch: not batch[0].ask.defer)


def _execute_batch(
    workspace: Workspace,
    batch: Sequence[QueuedRequest],
    progress: Progress,
    began: float,
    actor: str,
    failed: list[Failure],
) -> list[list[dict[str, Any]]]:
    """Execute requests together, or one by one if one of them is invalid; return the outcomes by batch.

    Adds requests that could not be finished to ``failed``.
    """
    try:
        return [execute(workspace, batch, progress, began, actor)]
    except InputError as error:
        if _has_begun(workspace, batch):  # the data is erased, so the requests wait for a repair
            failed.append(Failure(tuple(queued.request_id for queued in batch), error))
            return [[]]
        if len(batch) > 1:
            progress.say("These requests cannot be executed together: they are executed one by one.")
            singles = [
                _execute_batch(workspace, [queued], progress, began, actor, failed) for queued in batch
            ]
            return [outcomes for single in singles for outcomes in single]
        fail(workspace, [batch[0].request_id], error)
        failed.append(Failure((batch[0].request_id,), error))
    except ExpungeError as error:
        failed.append(Failure(tuple(queued.request_id for queued in batch), error))
    return [[]]


def _has_begun(workspace: Workspace, batch: Sequence[QueuedRequest]) -> bool:
    """Return whether the data of a request in the batch was already erased from the dataset."""
    with workspace.session() as session:
        return any(get_request(session, queued.request_id).version_after is not None for queued in batch)
