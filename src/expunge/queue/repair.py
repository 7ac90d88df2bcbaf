# SPDX-License-Identifier: Apache-2.0
"""The repair that may wait: one training, or one unlearning, for all requests that a model has open."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.catalog.locks import model_lock
from expunge.catalog.models import WITHDRAW
from expunge.errors import EnvironmentChanged, InputError, Preempted
from expunge.evidence import anchor
from expunge.exact.damage import DamagedData
from expunge.exact.model import ErasableModel
from expunge.exact.unpublished import destroy_unpublished
from expunge.progress import Progress
from expunge.queue.attempts import held, how_of
from expunge.queue.leftout import delete_originals, wants_no_originals
from expunge.steps import descent
from expunge.steps.approximation import Approximation, Settings
from expunge.steps.descent import Descent
from expunge.steps.execution import Execution
from expunge.steps.settling import fail, settle, settle_executed
from expunge.steps.withdrawal import Withdrawal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace


def repair(
    workspace: Workspace,
    names: Sequence[str],
    progress: Progress,
    retrain: bool = False,
    how: tuple[str, Settings] | None = None,
) -> dict[str, Any]:
    """Finish what deferred, preempted or killed erasures left: one training for all that wait.

    Args:
        workspace: Where the models are known.
        names: Which models; none: all but those that are held for a person's decision.
        progress: Where to report.
        retrain: Train everything anew where the checkpoints are of another environment. A request that
            asked for a retrain allows it too.
        how: Method and settings for adopted models, in place of what their requests say.

    Raises:
        Preempted: If a forget of the same model came in between.
        EnvironmentChanged: If exactness cannot be promised here, and nobody asked for a retrain.
    """
    anchor.check(workspace)
    with workspace.session() as session:
        chosen = [catalog.find_model(session, n.partition("@")[0]) for n in names] or catalog.live(session)
        waiting = catalog.unfinished(session)
        on_hold = {} if names else held(session, workspace.settings.audit.attempts)
        heirs = _heirs(workspace, session, waiting)
    for hold in on_hold.values():
        progress.say(f"{hold.reason} {hold.next_step}")
    chosen = [p for p in chosen if p.name not in on_hold]
    anew = {name for w in waiting if w.method == "retrain" for name in w.models}
    destroy_unpublished(workspace)
    withdrawals = [_withdraw(workspace, *heirs[p.name], progress) for p in chosen if p.name in heirs]
    entries = []
    trouble: dict[str, InputError] = {}
    for published in chosen:
        if published.withdrawn or published.name in heirs:
            continue
        try:
            if published.plan_digest is None:
                entry = _unlearn_again(workspace, published.name, waiting, progress, how)
            else:
                anew_here = retrain or published.name in anew
                entry = _repair_one(workspace, published.name, [w.id for w in waiting], progress, anew_here)
        except InputError as error:  # the other models need not wait for this one
            trouble[published.name] = error
            continue
        if entry is not None:
            entries.append(entry)
            if entry.get("preempted"):
                raise Preempted("The repair gave way to another erasure.", "", "That command finishes it.")
    entries += [withdrawal.repair() for withdrawal in withdrawals]
    adopted = [entry for entry in entries if entry["plan"] is None or entry["method"] == WITHDRAW]
    for w in waiting:
        if wants_no_originals(workspace, w.id):
            delete_originals(workspace, w.id, progress)
    requests = [
        settle(
            workspace,
            w.id,
            [e for e in adopted if e["parent"].partition("@")[0] in w.models],
            resumed=True,
        )
        for w in waiting
    ]
    settle_executed(workspace)
    for name, problem in trouble.items():
        mine = [w.id for w in waiting if name in w.models]
        fail(workspace, mine, problem)
    for name, problem in trouble.items():
        mine = [w.id for w in waiting if name in w.models]
        raise problem.during(mine) if mine and isinstance(problem, DamagedData) else problem
    return {"models": entries, "requests": [{"request": r["request"], "state": r["state"]} for r in requests]}


def _repair_one(
    workspace: Workspace, name: str, waiting: list[str], progress: Progress, retrain: bool
) -> dict[str, Any] | None:
    with model_lock(workspace.locks, name, "repair") as lock:
        with workspace.session() as session:
            newest = catalog.find_model(session, name)
        model = ErasableModel.open(workspace, newest, progress)
        if newest.retained_digest == model.retained and newest.guarantee == "exact":
            return None
        with workspace.session(write=True) as session:
            model_id = catalog.ensure_model(session, name, newest.task)
        elsewhere = False
        try:
            model.check_environment(model_id, measure=retrain)
        except EnvironmentChanged:
            if not retrain:
                raise
            elsewhere = True
        request = newest.request_id or (waiting[-1] if waiting else None)
        execution = Execution(
            model, newest, model_id, lock, request, retrain=elsewhere, began=time.monotonic()
        )
        execution.publish_interim()
        return execution.repair()


def _heirs(
    workspace: Workspace, session: Session, waiting: Sequence[catalog.Waiting]
) -> dict[str, tuple[Descent, str]]:
    """The models that a waiting request concerns and that can only be withdrawn, each with that request."""
    found: dict[str, tuple[Descent, str]] = {}
    for w in waiting:
        dataset_id = catalog.get_request(session, w.id).dataset_id
        for name, heir in descent.descents_of(workspace, session, dataset_id, w.id).items():
            if name in w.models:
                found.setdefault(name, (heir, w.id))
    return found


def _withdraw(workspace: Workspace, heir: Descent, request_id: str, progress: Progress) -> Withdrawal:
    """Withdraw a model that a killed command had not come to, or that was left out before."""
    name = heir.model.name
    with model_lock(workspace.locks, name, "repair"):
        with workspace.session(write=True) as session:
            newest = catalog.find_model(session, name)
            model_id = catalog.ensure_model(session, name, newest.task)
        withdrawal = Withdrawal(workspace, newest, heir, model_id, request_id, progress)
        withdrawal.publish_interim()
        return withdrawal


def _unlearn_again(
    workspace: Workspace,
    name: str,
    waiting: Sequence[catalog.Waiting],
    progress: Progress,
    how: tuple[str, Settings] | None,
) -> dict[str, Any] | None:
    """Unlearn an adopted model for all requests that wait for it."""
    mine = [w for w in waiting if name in w.models]
    with model_lock(workspace.locks, name, "repair") as lock:
        with workspace.session(write=True) as session:
            newest = catalog.find_model(session, name)
            model_id = catalog.ensure_model(session, name, newest.task)
        if not mine:
            return None
        last = mine[-1]
        method, settings = how or how_of(last)
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
        return None if approximation.settled else approximation.repair()
