# SPDX-License-Identifier: Apache-2.0
"""The story of an erasure: request → scope → plan → execute → certify; and the repair that may wait."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.catalog.datasets import Selection, erase, resolve_selection, rows_taken
from expunge.catalog.locks import ModelLock, model_lock
from expunge.catalog.models import Published
from expunge.catalog.tables import RequestRow
from expunge.errors import EnvironmentChanged, InputError, Preempted
from expunge.exact.model import ErasableModel
from expunge.exact.runner import missing
from expunge.exact.unpublished import destroy_unpublished
from expunge.execution import Execution
from expunge.progress import Progress
from expunge.requests import delete_originals, settle

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Ask:
    """What somebody wants forgotten, and how (the arguments of ``expunge forget``)."""

    subjects: Sequence[str] = ()
    samples: Sequence[str] = ()
    listed: Sequence[str] = ()
    class_name: str | None = None
    dataset: str | None = None
    models: Sequence[str] = ()
    method: str = "auto"
    defer: bool = False
    delete_originals: bool = False
    confirm: Callable[[dict[str, Any]], bool] | None = None


@dataclass(frozen=True)
class Scope:
    """What a request takes out of its dataset.

    Attributes:
        selection: What was asked for, in the newest version.
        taken: Path and version of arrival of every row that goes; older versions may have more than the
            newest, and models saw them.
    """

    selection: Selection
    taken: frozenset[tuple[str, int]]

    @property
    def samples(self) -> int:
        """How many samples go."""
        return len({path for path, _ in self.taken})


@dataclass
class Affected:
    """A live model of the dataset, before and after the erasure."""

    published: Published
    before: ErasableModel
    after: ErasableModel
    saw: int

    def cost(self, retrain: bool = False) -> float:
        """Predicted cost in units of a retrain, by image passes that are missing to the final model."""
        passes = sum(node.passes for node in missing(self.after.graph, self.before.store))
        return 1.0 if retrain else round(passes / max(self.after.graph.passes, 1), 6)

    def preview(self) -> dict[str, Any]:
        """What erasing will mean for this model."""
        gone = {n.key for n in self.before.graph.nodes} - {n.key for n in self.after.graph.nodes}
        again = {(n.phase, n.shard, n.stage) for n in self.after.graph.nodes}
        cells = [
            {
                "phase": node.phase,
                "shard": node.shard,
                "stage": node.stage,
                "images": len(node.samples),
                "epochs": node.schedule.epochs,
                "retrained": node.key in gone and (node.phase, node.shard, node.stage) in again,
                "dropped": (node.phase, node.shard, node.stage) not in again,
            }
            for node in self.before.graph.nodes
        ]
        public = bool(self.before.graph.public and self.before.graph.public.key in gone)
        return {
            "model": self.published.label,
            "saw": self.saw,
            "cost_predicted": self.cost(),
            "public_data": public,
            "map": cells,
        }


def dry_run(workspace: Workspace, ask: Ask) -> dict[str, Any]:
    """Say what a forget would do and cost; nothing is changed."""
    scope = _scope(workspace, ask)
    return _preview(scope, _affected(workspace, ask, scope) if scope.taken else [])


def forget(workspace: Workspace, ask: Ask, progress: Progress, began: float | None = None) -> dict[str, Any]:
    """Forget: a new dataset version, an interim model at once, and the repaired one.

    Args:
        workspace: Where datasets and models are known.
        ask: What to forget.
        progress: Where to report.
        began: When the command began (``time.monotonic``), for the interim's seconds.

    Raises:
        InputError: If the request does not fit; nothing was changed.
        BusyError: If another process changes one of the models.
        EnvironmentChanged: If exactness cannot be promised here.
    """
    began = time.monotonic() if began is None else began
    if ask.method not in ("auto", "exact", "retrain"):
        raise InputError(
            f"There is no method '{ask.method}'.",
            "This version erases exactly, from models that `expunge train` made.",
            "Use --method auto, exact or retrain.",
        )
    scope = _scope(workspace, ask)
    if not scope.taken:
        return _again(workspace, ask, scope.selection, progress)
    if ask.confirm is not None and not ask.confirm(_preview(scope, _affected(workspace, ask, scope))):
        raise InputError("Nothing was changed.", "The question was not answered with yes.", "")
    names = [p.name for p in _concerned(workspace, ask, scope)]
    with ExitStack() as stack:
        locks = {
            name: stack.enter_context(model_lock(workspace.locks, name, "forget", urgent=True))
            for name in names
        }
        # While we waited for the locks another erasure may have changed everything: look again.
        scope = _scope(workspace, ask)
        if scope.taken:
            affected = _affected(workspace, replace(ask, models=tuple(locks)), scope) if locks else []
            return _execute_all(workspace, ask, scope, affected, locks, progress, began)
    return _again(workspace, ask, scope.selection, progress)


def _scope(workspace: Workspace, ask: Ask) -> Scope:
    with workspace.session() as session:
        selection = resolve_selection(
            session,
            key=workspace.key,
            subjects=ask.subjects,
            sample_paths=ask.samples,
            listed=ask.listed,
            class_name=ask.class_name,
            dataset=ask.dataset,
        )
        rows = rows_taken(
            session, selection.version.dataset_id, set(selection.paths), set(selection.subjects)
        )
    return Scope(selection, frozenset((row.path, row.arrived) for row in rows.values()))


def _concerned(workspace: Workspace, ask: Ask, scope: Scope) -> list[Published]:
    """The models named, or all live ones of the dataset."""
    with workspace.session() as session:
        found = catalog.live(session, scope.selection.version.dataset_id)
        named = {catalog.find_model(session, ref.partition("@")[0]).name for ref in ask.models}
    strangers = named - {p.name for p in found}
    if strangers:
        raise InputError(
            f"The model {sorted(strangers)[0]!r} was not trained on {scope.selection.version.name!r}.",
            "A request concerns one dataset and the models that saw it.",
            "Leave out --model to reach all models concerned.",
        )
    return [p for p in found if not named or p.name in named]


def _affected(workspace: Workspace, ask: Ask, scope: Scope) -> list[Affected]:
    result = []
    for published in _concerned(workspace, ask, scope):
        before = ErasableModel.open(workspace, published, Progress(quiet=True))
        saw = sum(1 for s in before.samples if s.split == "train" and (s.path, s.arrived) in scope.taken)
        after = before.without(scope.taken)
        if saw and not after.graph.nodes:
            raise InputError(
                f"Nothing would be left to train {published.label} on.",
                "The request takes every sample that the model has.",
                "Withdraw the model instead, or keep at least one sample.",
            )
        result.append(Affected(published, before, after, saw))
    return result


def _preview(scope: Scope, affected: list[Affected]) -> dict[str, Any]:
    selection = scope.selection
    return {
        "dataset": selection.version.label,
        "samples": scope.samples,
        "subjects": len(selection.subjects),
        "already_erased_by": selection.already_erased_by,
        "models": [a.preview() for a in affected],
    }


def _execute_all(
    workspace: Workspace,
    ask: Ask,
    scope: Scope,
    affected: list[Affected],
    locks: dict[str, ModelLock],
    progress: Progress,
    began: float,
) -> dict[str, Any]:
    request_id, selection = f"r-{secrets.token_hex(8)}", scope.selection
    ids = _model_ids(workspace, affected)
    for a in affected:
        a.after.progress = progress
        if ask.method != "retrain" and a.after.retained != a.published.retained_digest:
            a.after.check_environment(ids[a.published.name])
    with workspace.session(write=True) as session:
        version = erase(
            session,
            selection.version,
            set(selection.paths),
            set(selection.subjects),
            request_id=request_id,
            key=workspace.key,
        )
        asked = {
            "samples": scope.samples,
            "subjects": len(selection.subjects),
            "models": sorted(locks),
            "defer": ask.defer,
        }
        session.add(
            RequestRow(
                id=request_id,
                dataset_id=version.dataset_id,
                state="running",
                method=ask.method,
                selection=asked,
                version_before=selection.version.number,
                version_after=version.number,
            )
        )
    executions = [
        Execution(
            a.after,
            a.published,
            ids[a.published.name],
            locks[a.published.name],
            request_id,
            retrain=ask.method == "retrain",
            predicted=a.cost(ask.method == "retrain"),
            began=began,
            preempted=lambda: any(lock.preempted() for lock in locks.values()),
        )
        for a in affected
    ]
    for execution in executions:  # all of them first: repairs take their time
        execution.publish_interim()
    destroy_unpublished(workspace)
    entries: list[dict[str, Any]] = []
    for lock in locks.values():
        lock.say("repair")  # from here on another erasure may preempt this one, whichever model it wants
    for execution in executions:
        waits = ask.defer or any(lock.preempted() for lock in locks.values())
        entries.append(execution.repair(waits))
    if ask.delete_originals:
        delete_originals(workspace, request_id)
    outcome = settle(workspace, request_id, entries)
    for other in _waiting(workspace, locks):
        settle(workspace, other, None)  # what it waited for was done with this one
    return {**outcome, "already_erased_by": selection.already_erased_by}


def _waiting(workspace: Workspace, models: Container[str]) -> list[str]:
    """The unfinished requests that concern no other models than these."""
    with workspace.session() as session:
        rows = [catalog.get_request(session, request_id) for request_id in catalog.unfinished(session)]
        return [row.id for row in rows if all(name in models for name in row.selection["models"])]


def _model_ids(workspace: Workspace, affected: list[Affected]) -> dict[str, int]:
    with workspace.session(write=True) as session:
        return {
            a.published.name: catalog.ensure_model(session, a.published.name, a.published.task)
            for a in affected
        }


def repair(
    workspace: Workspace, names: Sequence[str], progress: Progress, retrain: bool = False
) -> dict[str, Any]:
    """Finish what deferred, preempted or killed erasures left: one training for all that wait.

    Args:
        workspace: Where the models are known.
        names: Which models; none: all.
        progress: Where to report.
        retrain: Train everything anew where the checkpoints are of another environment. A request that
            asked for a retrain allows it too.

    Raises:
        Preempted: If a forget of the same model came in between.
        EnvironmentChanged: If exactness cannot be promised here, and nobody asked for a retrain.
    """
    with workspace.session() as session:
        chosen = [catalog.find_model(session, n.partition("@")[0]) for n in names] or catalog.live(session)
        waiting = catalog.unfinished(session)
        rows = [catalog.get_request(session, request_id) for request_id in waiting]
        anew = {name for row in rows if row.method == "retrain" for name in row.selection["models"]}
    destroy_unpublished(workspace)
    entries = []
    for published in chosen:
        if published.plan_digest is None:
            continue
        entry = _repair_one(workspace, published.name, waiting, progress, retrain or published.name in anew)
        if entry is not None:
            entries.append(entry)
            if entry.get("preempted"):
                raise Preempted("The repair gave way to another erasure.", "", "That command finishes it.")
    requests = [settle(workspace, request_id, None) for request_id in waiting]
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
            model.check_environment(model_id)
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


def _again(workspace: Workspace, ask: Ask, selection: Selection, progress: Progress) -> dict[str, Any]:
    """All that was asked for is erased already; if that request is unfinished, finish it."""
    first = next(iter(selection.already_erased_by.values()))
    with workspace.session() as session:
        row = session.get(RequestRow, first)
        unfinished = row is not None and row.state == "running" and not ask.defer
        names = list(row.selection.get("models", [])) if row else []
    if unfinished:
        repair(workspace, names, progress, ask.method == "retrain")
    if ask.delete_originals:
        delete_originals(workspace, first)
    outcome = settle(workspace, first, None) if row is not None else {"request": first, "state": "closed"}
    return {**outcome, "models": [], "already_erased_by": selection.already_erased_by}
