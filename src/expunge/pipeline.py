# SPDX-License-Identifier: Apache-2.0
"""The story of an erasure: request → scope → plan → execute → certify."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from expunge.affected import EXACT, Adopted, Affected, affected
from expunge.approximation import Approximation, Settings
from expunge.catalog import models as catalog
from expunge.catalog.datasets import Selection, erase, resolve_selection, rows_taken
from expunge.catalog.locks import ModelLock, model_lock
from expunge.catalog.models import Published
from expunge.catalog.tables import RequestRow
from expunge.errors import InputError
from expunge.evidence.keys import signing_key
from expunge.exact.unpublished import destroy_unpublished
from expunge.execution import Execution
from expunge.progress import Progress
from expunge.repair import repair
from expunge.requests import delete_originals, settle, settle_executed

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
    settings: Settings = field(default_factory=Settings)
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


def dry_run(workspace: Workspace, ask: Ask) -> dict[str, Any]:
    """Say what a forget would do and cost; nothing is changed."""
    _check_method(ask)
    scope = _scope(workspace, ask)
    return _preview(ask, scope, _affected(workspace, ask, scope) if scope.taken else [])


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
    _check_method(ask)
    scope = _scope(workspace, ask)
    if not scope.taken:
        return _again(workspace, ask, scope.selection, progress)
    if ask.confirm is not None and not ask.confirm(_preview(ask, scope, _affected(workspace, ask, scope))):
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
            found = _affected(workspace, ask, scope, tuple(locks)) if locks else []
            return _execute_all(workspace, ask, scope, found, locks, progress, began)
    return _again(workspace, ask, scope.selection, progress)


def _check_method(ask: Ask) -> None:
    if ask.method not in EXACT:
        from expunge.methods.base import get_method

        method, goal = get_method(ask.method), "class" if ask.class_name else "subject"
        method.check(ask.settings.hyperparameters)
        if goal not in method.goals:
            raise InputError(
                f"The method '{method.name}' is not for this request.",
                f"It is for: {', '.join(method.goals)}.",
                "See docs/methods, or use --method auto.",
            )
    if ask.settings.device != "cpu":
        from expunge.tasks.device import resolve_device

        resolve_device(ask.settings.device)
    budget = ask.settings.budget
    if budget is not None and not budget > 0:
        raise InputError(
            f"The budget {budget:g} does not fit.", "It is in units of a retrain.", "Give a positive one."
        )
    if ask.method in EXACT and ask.settings.hyperparameters and ask.method != "retrain":
        raise InputError(
            f"'{sorted(ask.settings.hyperparameters)[0]}' is a setting of one method.",
            f"--method {ask.method} has none.",
            "Name the method, or leave --set out.",
        )


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


def _affected(
    workspace: Workspace, ask: Ask, scope: Scope, locked: Sequence[str] = ()
) -> list[Affected | Adopted]:
    """The models concerned, or those that were locked."""
    named = {ref.partition("@")[0] for ref in ask.models}
    ask = replace(ask, models=tuple(locked)) if locked else ask
    return [
        affected(workspace, p, scope.taken, ask.method, p.name in named, ask.settings.hyperparameters)
        for p in _concerned(workspace, ask, scope)
    ]


def _preview(ask: Ask, scope: Scope, found: Sequence[Affected | Adopted]) -> dict[str, Any]:
    selection = scope.selection
    return {
        "dataset": selection.version.label,
        "samples": scope.samples,
        "subjects": len(selection.subjects),
        "already_erased_by": selection.already_erased_by,
        "models": [a.preview(ask.method) for a in found],
    }


def _execute_all(
    workspace: Workspace,
    ask: Ask,
    scope: Scope,
    found: Sequence[Affected | Adopted],
    locks: dict[str, ModelLock],
    progress: Progress,
    began: float,
) -> dict[str, Any]:
    request_id, selection = f"r-{secrets.token_hex(8)}", scope.selection
    signing_key(workspace)  # without it there would be no certificate in the end
    ids = _model_ids(workspace, found)
    for a in found:
        if isinstance(a, Adopted):
            continue
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
            "class": ask.class_name,
            "settings": ask.settings.as_json(),
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
    executions: list[Execution | Approximation] = []
    for a in found:
        name = a.published.name
        if isinstance(a, Adopted):
            executions.append(
                Approximation(
                    workspace, a.published, ids[name], locks[name], request_id, ask.method, progress,
                    ask.settings, a.cost(ask.method), selection.subjects, ask.class_name,
                )
            )  # fmt: skip
            continue
        executions.append(
            Execution(
                a.after,
                a.published,
                ids[name],
                locks[name],
                request_id,
                retrain=ask.method == "retrain",
                predicted=a.cost(ask.method),
                began=began,
                preempted=lambda: any(lock.preempted() for lock in locks.values()),
            )
        )
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
    settle_executed(workspace, besides=request_id)
    return {**outcome, "already_erased_by": selection.already_erased_by}


def _waiting(workspace: Workspace, models: Container[str]) -> list[str]:
    """The unfinished requests that concern no other models than these."""
    with workspace.session() as session:
        waiting = catalog.unfinished(session)
    return [w.id for w in waiting if all(name in models for name in w.selection["models"])]


def _model_ids(workspace: Workspace, found: Sequence[Affected | Adopted]) -> dict[str, int]:
    with workspace.session(write=True) as session:
        return {
            a.published.name: catalog.ensure_model(session, a.published.name, a.published.task) for a in found
        }


def _again(workspace: Workspace, ask: Ask, selection: Selection, progress: Progress) -> dict[str, Any]:
    """All that was asked for is erased already; if that request is unfinished, finish it."""
    first = next(iter(selection.already_erased_by.values()))
    with workspace.session() as session:
        row = session.get(RequestRow, first)
        unfinished = row is not None and row.state == "running" and not ask.defer
        names = list(row.selection.get("models", [])) if row else []
    again: list[dict[str, Any]] = []
    if unfinished:
        done = repair(workspace, names, progress, ask.method == "retrain", (ask.method, ask.settings))
        again = [
            entry for entry in done["models"] if entry["plan"] is None
        ]  # judged: there is something to say
    if ask.delete_originals:
        delete_originals(workspace, first)
    outcome = settle(workspace, first, None) if row is not None else {"request": first, "state": "closed"}
    return {**outcome, "models": again, "already_erased_by": selection.already_erased_by}
