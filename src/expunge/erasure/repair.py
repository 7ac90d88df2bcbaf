# SPDX-License-Identifier: Apache-2.0
"""Step 5 of a request: finish repairs that were deferred, preempted or interrupted.

A model is trained or unlearned once for all of its unfinished requests.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.catalog import model_store
from expunge.catalog.model_store import WITHDRAW
from expunge.erasure.approximate import Approximation
from expunge.erasure.closing import close_executed, close_request, fail
from expunge.erasure.descent import Descent, descents_after_erasure
from expunge.erasure.exact import Execution
from expunge.erasure.holds import held, requested_method
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.skipped_models import delete_originals, deletes_originals
from expunge.erasure.withdrawal import Withdrawal
from expunge.errors import EnvironmentChanged, InputError, Preempted
from expunge.evidence import anchor
from expunge.exact.damaged_files import DamagedData
from expunge.exact.model import ErasableModel
from expunge.exact.unpublished import destroy_unpublished
from expunge.progress import Progress
from expunge.storage.locks import model_lock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace


def repair(
    workspace: Workspace,
    names: Sequence[str],
    progress: Progress,
    retrain: bool = False,
    override: tuple[str, MethodSettings] | None = None,
) -> dict[str, Any]:
    """Repair models with unfinished requests, then close these requests.

    Args:
        workspace: The workspace of the models.
        names: Names of the models; empty: all except those that are held for a person's decision.
        progress: Receives progress reports.
        retrain: Retrain models whose checkpoints were made in another environment. A request with the
            method ``retrain`` allows it too.
        override: Method and settings for adopted models, in place of those of their requests.

    Returns:
        ``models``: the result of each model, in the form of ``forget --json``; ``requests``: id and state of
        each request.

    Raises:
        Preempted: If an erasure of the same model interrupted the repair.
        EnvironmentChanged: If this environment cannot repeat a training exactly and no retrain is allowed.
    """
    anchor.check(workspace)
    with workspace.session() as session:
        chosen = [
            model_store.find_model(session, n.partition("@")[0]) for n in names
        ] or model_store.newest_versions(session)
        waiting = model_store.unfinished_requests(session)
        on_hold = {} if names else held(session, workspace.settings.audit.attempts)
        descents = _pending_descents(workspace, session, waiting)
    for hold in on_hold.values():
        progress.say(f"{hold.reason} {hold.next_step}")
    chosen = [p for p in chosen if p.name not in on_hold]
    may_retrain = {name for w in waiting if w.method == "retrain" for name in w.models}
    destroy_unpublished(workspace)
    withdrawals = [_withdraw(workspace, *descents[p.name], progress) for p in chosen if p.name in descents]
    entries = []
    errors: dict[str, InputError] = {}
    for published in chosen:
        name = published.name
        if published.withdrawn or name in descents:
            continue
        try:
            if published.plan_digest is None:
                entry = _repair_adopted(workspace, name, waiting, progress, override)
            else:
                allowed = retrain or name in may_retrain
                entry = _repair_erasable(workspace, name, [w.id for w in waiting], progress, allowed)
        except InputError as error:  # raised after the other models are repaired
            errors[name] = error
            continue
        if entry is not None:
            entries.append(entry)
            if entry.get("preempted"):
                raise Preempted("The repair gave way to another erasure.", "", "That command finishes it.")
    entries += [withdrawal.repair() for withdrawal in withdrawals]
    adopted = [entry for entry in entries if entry["plan"] is None or entry["method"] == WITHDRAW]
    for w in waiting:
        if deletes_originals(workspace, w.id):
            delete_originals(workspace, w.id, progress)
    requests = [
        close_request(
            workspace,
            w.id,
            [e for e in adopted if e["parent"].partition("@")[0] in w.models],
            resumed=True,
        )
        for w in waiting
    ]
    close_executed(workspace)
    request_ids = {name: [w.id for w in waiting if name in w.models] for name in errors}
    for name, problem in errors.items():
        fail(workspace, request_ids[name], problem)
    for name, problem in errors.items():
        ids = request_ids[name]
        raise problem.during(ids) if ids and isinstance(problem, DamagedData) else problem
    return {"models": entries, "requests": [{"request": r["request"], "state": r["state"]} for r in requests]}


def _repair_erasable(
    workspace: Workspace, name: str, waiting: list[str], progress: Progress, retrain: bool
) -> dict[str, Any] | None:
    """Repair an erasable model; return its result, or None if nothing is left to do.

    Args:
        workspace: The workspace of the model.
        name: Name of the model.
        waiting: Ids of all unfinished requests.
        progress: Receives progress reports.
        retrain: Whether the model may be retrained in a changed environment.
    """
    with model_lock(workspace.locks, name, "repair") as lock:
        with workspace.session() as session:
            newest = model_store.find_model(session, name)
        model = ErasableModel.open(workspace, newest, progress)
        if newest.retained_digest == model.retained and newest.guarantee == "exact":
            return None
        with workspace.session(write=True) as session:
            model_id = model_store.ensure_model(session, name, newest.task)
        changed = False
        try:
            model.check_environment(model_id, measure=retrain)
        except EnvironmentChanged:
            if not retrain:
                raise
            changed = True
        request_id = newest.request_id or (waiting[-1] if waiting else None)
        execution = Execution(
            model, newest, model_id, lock, request_id, retrain=changed, began=time.monotonic()
        )
        execution.publish_interim()
        return execution.repair()


def _pending_descents(
    workspace: Workspace, session: Session, waiting: Sequence[model_store.UnfinishedRequest]
) -> dict[str, tuple[Descent, str]]:
    """Return by name the models still to be withdrawn, each with the first request that requires it."""
    found: dict[str, tuple[Descent, str]] = {}
    for w in waiting:
        dataset_id = model_store.get_request(session, w.id).dataset_id
        for name, descent in descents_after_erasure(workspace, session, dataset_id, w.id).items():
            if name in w.models:
                found.setdefault(name, (descent, w.id))
    return found


def _withdraw(workspace: Workspace, descent: Descent, request_id: str, progress: Progress) -> Withdrawal:
    """Withdraw a model that an interrupted command did not reach, or that was left out before."""
    name = descent.model.name
    with model_lock(workspace.locks, name, "repair"):
        with workspace.session(write=True) as session:
            newest = model_store.find_model(session, name)
            model_id = model_store.ensure_model(session, name, newest.task)
        withdrawal = Withdrawal(workspace, newest, descent, model_id, request_id, progress)
        withdrawal.publish_interim()
        return withdrawal


def _repair_adopted(
    workspace: Workspace,
    name: str,
    waiting: Sequence[model_store.UnfinishedRequest],
    progress: Progress,
    override: tuple[str, MethodSettings] | None,
) -> dict[str, Any] | None:
    """Unlearn an adopted model for all waiting requests; return its result, or None if none waits."""
    requests = [w for w in waiting if name in w.models]
    with model_lock(workspace.locks, name, "repair") as lock:
        with workspace.session(write=True) as session:
            newest = model_store.find_model(session, name)
            model_id = model_store.ensure_model(session, name, newest.task)
        if not requests:
            return None
        last = requests[-1]
        method, settings = override or requested_method(last)
        method = "auto" if method == "exact" else method
        approximation = Approximation(
            workspace,
            newest,
            model_id,
            lock,
            last.id,
            method,
            progress,
            settings,
            class_name=last.selection.get("class"),
        )
        return None if approximation.unchanged else approximation.repair()
