# SPDX-License-Identifier: Apache-2.0
"""Step 4 of a request: erase its samples, bring every model up to date, and certify the outcome.

A batch of requests is executed together. The steps of ``execute``: resolve the scopes under the models'
locks, predict the impact on each model, check the environments, erase the samples, publish all interim
models, repair the models, close the requests.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from expunge.catalog import model_store, states
from expunge.catalog.dataset_store import Selection
from expunge.catalog.tables import RequestRow
from expunge.erasure.approximate import Approximation
from expunge.erasure.closing import close_executed, close_request, fail
from expunge.erasure.dataset_erasure import QueuedRequest, erase_samples
from expunge.erasure.exact import Execution
from expunge.erasure.impact import Adopted, Affected, Descendant
from expunge.erasure.intake import Opening, actor_name, new_id, open_request
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.references import destroy_references
from expunge.erasure.repair import repair
from expunge.erasure.scope import (
    ErasureRequest,
    Scope,
    affected_by,
    check_method,
    concerned_models,
    preview,
    resolve_scope,
)
from expunge.erasure.skipped_models import add_models, delete_originals, deletes_originals, find_left_out
from expunge.erasure.skipped_models import preview as preview_left_out
from expunge.erasure.withdrawal import Withdrawal
from expunge.errors import InputError
from expunge.evidence import anchor, journal
from expunge.exact.damaged_files import DamagedData, delete_damage_lists
from expunge.exact.unpublished import destroy_unpublished
from expunge.progress import Progress
from expunge.storage.locks import ModelLock, model_lock

if TYPE_CHECKING:
    from expunge.workspace import Workspace

__all__ = ["ErasureRequest", "MethodSettings", "QueuedRequest", "Scope", "dry_run", "execute", "forget"]


def dry_run(workspace: Workspace, request: ErasureRequest) -> dict[str, Any]:
    """Return the predicted outcome and cost of a request; nothing is changed."""
    check_method(request)
    scope = resolve_scope(workspace, request)
    return preview(request, scope, affected_by(workspace, request, scope) if scope.taken else [])


def forget(
    workspace: Workspace,
    request: ErasureRequest,
    progress: Progress,
    began: float | None = None,
    actor: str | None = None,
    ground: str | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    """Open a request, approve it and execute it; return its outcome.

    If a second person must approve it, the request is only opened.

    Args:
        workspace: The workspace of the datasets and models.
        request: Arguments of the request.
        progress: Receives progress reports.
        began: Start of the command (``time.monotonic``), from which the interim's seconds count; None: now.
        actor: Name of the person who acts; None: the user of the operating system.
        ground: Ground for erasure, a name in ``catalog.states.GROUNDS``; it stays on record.
        note: Free text, kept with the request until it is closed.

    Returns:
        The outcome in the form of ``forget --json``.

    Raises:
        InputError: If the request is invalid; nothing was changed.
        BusyError: If another process changes one of the models.
        EnvironmentChanged: If this environment cannot repeat a training exactly.
    """
    if ground is not None:
        states.reason_of(states.GROUNDS, ground, "The ground")
    began = time.monotonic() if began is None else began
    who = actor_name(actor)
    check_method(request)
    anchor.check(workspace)
    scope = resolve_scope(workspace, request)
    if not scope.taken:
        return _finish_earlier(workspace, request, scope.selection, progress, who)
    if request.confirm is not None and not request.confirm(
        preview(request, scope, affected_by(workspace, request, scope))
    ):
        raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
    if workspace.settings.approval.four_eyes:
        return _unapproved(open_request(workspace, request, Opening(actor=who, ground=ground, note=note)))
    queued = QueuedRequest(new_id(), request, queued=False, ground=ground, note=note)
    outcomes = execute(workspace, [queued], progress, began, who)
    if not outcomes:  # another process erased all samples while this one waited for the locks
        return _finish_earlier(workspace, request, resolve_scope(workspace, request).selection, progress, who)
    return outcomes[0]


def execute(
    workspace: Workspace, batch: Sequence[QueuedRequest], progress: Progress, began: float, actor: str
) -> list[dict[str, Any]]:
    """Execute a batch of requests: each makes a dataset version, and each model is updated once.

    Args:
        workspace: The workspace of the requests.
        batch: Requests for the same dataset, models and method.
        progress: Receives progress reports.
        began: Start of the command (``time.monotonic``).
        actor: Name of the person who runs them.

    Returns:
        The outcome of each executed request, in the form of ``forget --json``. Requests that another process
        executed first, and a new request without samples to erase, are left out.

    Raises:
        InputError: If a request is invalid; nothing was changed.
        BusyError: If another process changes one of the models.
        EnvironmentChanged: If this environment cannot repeat a training exactly.
    """
    first = batch[0].ask
    unlocked_scopes = [resolve_scope(workspace, queued.ask) for queued in batch]
    unlocked_rows = frozenset().union(*(scope.taken for scope in unlocked_scopes))
    names = [p.name for p in concerned_models(workspace, first, unlocked_scopes[0], unlocked_rows)]
    with ExitStack() as stack:
        locks = {
            name: stack.enter_context(model_lock(workspace.locks, name, "forget", urgent=True))
            for name in names
        }
        # Another process may have erased samples before the locks were free: resolve the scopes again.
        scopes = [resolve_scope(workspace, queued.ask) for queued in batch]
        erased = frozenset().union(*(scope.taken for scope in scopes))
        if not erased and not any(queued.queued for queued in batch):
            return []
        impacts = affected_by(workspace, first, scopes[0], tuple(locks), erased) if locks and erased else []
        ids = _model_ids(workspace, impacts)
        _check_environments(impacts, ids, first, progress)
        journal.check_ready(workspace)  # an erasure without evidence must not begin
        started = erase_samples(workspace, batch, scopes, sorted(locks), actor)
        try:
            return _update_models(workspace, started, impacts, ids, locks, progress, began)
        except Exception as error:
            request_ids = [queued.request_id for queued, _ in started]
            fail(workspace, request_ids, error)
            if isinstance(error, DamagedData):
                raise error.during(request_ids) from error
            raise


def _check_environments(
    impacts: Sequence[Affected | Adopted | Descendant],
    ids: dict[str, int],
    request: ErasureRequest,
    progress: Progress,
) -> None:
    """Raise EnvironmentChanged if a model cannot be repaired exactly in this environment."""
    for impact in impacts:
        if not isinstance(impact, Affected):
            continue
        impact.after.progress = progress
        if request.method != "retrain" and impact.after.retained != impact.published.retained_digest:
            impact.after.check_environment(ids[impact.published.name])


def _update_models(
    workspace: Workspace,
    started: Sequence[tuple[QueuedRequest, Scope]],
    impacts: Sequence[Affected | Adopted | Descendant],
    ids: dict[str, int],
    locks: dict[str, ModelLock],
    progress: Progress,
    began: float,
) -> list[dict[str, Any]]:
    """Bring the models up to date after an erasure and close its requests.

    Returns:
        The outcome of each request, in the form of ``forget --json``.

    Raises:
        InputError: The first error of a model; the other models were updated and the requests recorded.
    """
    if not started:
        return []
    executions = _executions(workspace, started, impacts, ids, locks, progress, began)
    for execution in executions:  # all interim models come before the first repair, which may take hours
        execution.publish_interim()
    destroy_unpublished(workspace, locks)
    destroy_references(workspace)
    delete_damage_lists(workspace)
    entries: list[dict[str, Any]] = []
    errors: list[InputError] = []
    for lock in locks.values():
        lock.say("repair")  # from here on, an erasure that wants any of these models may preempt this one
    defer = started[0][0].ask.defer
    for execution in executions:
        deferred = defer or any(lock.preempted() for lock in locks.values())
        try:
            entries.append(execution.repair(deferred))
        except InputError as error:  # raised after the other models are repaired
            errors.append(error)
    outcomes = []
    for queued, scope in started:
        if queued.ask.delete_originals:
            delete_originals(workspace, queued.request_id, progress)
        outcome = close_request(workspace, queued.request_id, entries)
        outcomes.append({**outcome, "already_erased_by": scope.selection.already_erased_by})
    for request_id in _others_waiting(workspace, locks, {queued.request_id for queued, _ in started}):
        close_request(workspace, request_id, None)  # this batch has repaired its models too
    close_executed(workspace, besides={queued.request_id for queued, _ in started})
    for problem in errors:
        raise problem
    return outcomes


def _executions(
    workspace: Workspace,
    started: Sequence[tuple[QueuedRequest, Scope]],
    impacts: Sequence[Affected | Adopted | Descendant],
    ids: dict[str, int],
    locks: dict[str, ModelLock],
    progress: Progress,
    began: float,
) -> list[Execution | Approximation | Withdrawal]:
    """Return one execution for each model, recorded under the last request of the batch."""
    last = started[-1][0]
    request_id, request = last.request_id, last.ask
    subjects = {s for _, scope in started for s in scope.selection.subjects}
    executions: list[Execution | Approximation | Withdrawal] = []
    for impact in impacts:
        published, name = impact.published, impact.published.name
        if isinstance(impact, Descendant):
            executions.append(
                Withdrawal(workspace, published, impact.descent, ids[name], request_id, progress)
            )
            continue
        if isinstance(impact, Adopted):
            executions.append(
                Approximation(
                    workspace, published, ids[name], locks[name], request_id, request.method, progress,
                    request.settings, impact.cost(request.method), subjects, request.class_name,
                )
            )  # fmt: skip
            continue
        executions.append(
            Execution(
                impact.after,
                published,
                ids[name],
                locks[name],
                request_id,
                retrain=request.method == "retrain",
                predicted=impact.cost(request.method),
                began=began,
                preempted=lambda: any(lock.preempted() for lock in locks.values()),
            )
        )
    return executions


def _others_waiting(workspace: Workspace, models: Container[str], excluded: Container[str]) -> list[str]:
    """Return the ids of other unfinished requests that concern only these models."""
    with workspace.session() as session:
        waiting = model_store.unfinished_requests(session)
    return [w.id for w in waiting if w.id not in excluded and all(name in models for name in w.models)]


def _model_ids(workspace: Workspace, impacts: Sequence[Affected | Adopted | Descendant]) -> dict[str, int]:
    """Return the row id of each model by name."""
    published = [impact.published for impact in impacts]
    with workspace.session(write=True) as session:
        return {p.name: model_store.ensure_model(session, p.name, p.task) for p in published}


def _unapproved(record: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of a request that a second person must approve first."""
    return {
        **record,
        "models": [],
        "certificate": None,
        "originals_left": None,
        "next": f"Somebody else approves it with: expunge request approve {record['request']}",
    }


def _finish_earlier(
    workspace: Workspace, request: ErasureRequest, selection: Selection, progress: Progress, actor: str
) -> dict[str, Any]:
    """Finish the requests that erased the selected samples before; return the outcome of the first.

    Models that those requests left out and that still hold the data are updated too, if this request
    concerns them.
    """
    first = next(iter(selection.already_erased_by.values()))
    only = {ref.partition("@")[0] for ref in request.models}
    further = {
        r: find_left_out(workspace, r, only) for r in dict.fromkeys(selection.already_erased_by.values())
    }
    further = {request_id: names for request_id, names in further.items() if names and not request.defer}
    if further and request.confirm is not None:
        models = [
            e for r, names in further.items() for e in preview_left_out(workspace, r, names, request.method)
        ]
        if not request.confirm({**preview(request, Scope(selection, frozenset()), []), "models": models}):
            raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
    for request_id, names in further.items():
        add_models(workspace, request_id, names, actor)
    with workspace.session() as session:
        row = session.get(RequestRow, first)
        unfinished = row is not None and row.state in states.RUNNING_STATES and not request.defer
        own = list(row.selection.get("models", [])) if row is not None and unfinished else []
    names = sorted({*own, *(name for names in further.values() for name in names)})
    repaired: list[dict[str, Any]] = []
    if names:
        done = repair(
            workspace, names, progress, request.method == "retrain", (request.method, request.settings)
        )
        repaired = [
            e for e in done["models"] if e["plan"] is None or e["parent"].partition("@")[0] not in own
        ]
    for request_id in (first, *further):
        if request.delete_originals or deletes_originals(workspace, request_id):
            delete_originals(workspace, request_id, progress)
    outcome = (
        close_request(workspace, first, None, resumed=unfinished)
        if row is not None
        else {"request": first, "state": "closed"}
    )
    return {**outcome, "models": repaired, "already_erased_by": selection.already_erased_by}
