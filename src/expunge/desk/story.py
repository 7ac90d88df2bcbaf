# SPDX-License-Identifier: Apache-2.0
"""One request from its receipt to its certificate: what was decided, what it cost, what came out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import requests as catalog
from expunge.catalog import states
from expunge.catalog.models import get_request
from expunge.catalog.states import State
from expunge.desk.audits import audits
from expunge.desk.queue import shown as as_shown
from expunge.errors import Conflict
from expunge.queue.next_step import next_step
from expunge.steps.scoping import Ask, affected_by, preview, scope_of

if TYPE_CHECKING:
    from expunge.catalog.tables import RequestRow
    from expunge.workspace import Workspace


def story(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Return a request with its events, models, audits, and what can be done with it next.

    Returns:
        What ``request show --json`` prints, and ``outcome`` (``models``, each as of ``forget --json`` with
        paths within the workspace; None before it ran), ``originals_left``, ``audits``, ``certified``,
        ``can`` (of approve, refuse, tell-refusal, extend, tell, run), and ``next``, in words.

    Raises:
        NotFound: If there is no such request.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        shown = as_shown(workspace, session, row, workspace.clock())
        shown["events"] = catalog.events(session, request_id)
        result, can = dict(row.result or {}), _can(row)
        shown["settings"] = {
            k: v for k, v in (row.selection.get("settings") or {}).items() if k != "hyperparameters"
        }
        shown["class_request"] = row.selection.get("class") is not None
        shown["version_before"], shown["version_after"] = row.version_before, row.version_after
    shown["outcome"] = [_model(workspace, m) for m in result["models"]] if "models" in result else None
    shown["originals_left"] = result.get("originals_left")
    shown["audits"] = audits(workspace, request_id)
    shown["can"] = can
    shown["four_eyes"] = workspace.settings.approval.four_eyes
    following = next_step(workspace, request_id)
    shown["next"] = following.text.replace(str(workspace.root), ".expunge")
    return shown


def selected(workspace: Workspace, request_id: str) -> dict[str, Any] | None:
    """Return what a request asks for: ids of subjects, paths of samples; None once it is forgotten.

    Raises:
        NotFound: If there is no such request.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        asked, note = row.selection.get("asked"), row.note
    return None if asked is None else {**asked, "note": note}


def scope(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Return what executing a request would do, and its predicted cost, as of ``forget --dry-run --json``.

    Raises:
        NotFound: If there is no such request.
        Conflict: If it does not wait any more: its selection is erased, or forgotten.
        InputError: If what it selects is not there any more.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        if State(row.state) not in states.WAITING or "asked" not in row.selection:
            raise Conflict(f"{request_id} is {row.state}.", "A scope is of what waits.", "See its outcome.")
        ask = Ask.from_record(row.method, row.selection)
    found = scope_of(workspace, ask)
    shown = preview(ask, found, affected_by(workspace, ask, found) if found.taken else [])
    erased = shown.pop("already_erased_by")
    return {**shown, "erased_before": sorted(set(erased.values()))}


def check_runnable(workspace: Workspace, request_ids: Sequence[str]) -> None:
    """Raise an error if one of these requests could not be run now.

    Raises:
        NotFound: If one is not known.
        Conflict: If one is not approved, or there is nothing left to run.
    """
    with workspace.session() as session:
        for request_id in request_ids:
            row = get_request(session, request_id)
            if "run" not in _can(row):
                why = "Approve it first." if row.state in states.WAITING else ""
                raise Conflict(f"{request_id} is {row.state}.", "It cannot be run now.", why)


def _can(row: RequestRow) -> list[str]:
    """What may be done with a request in its state, by anybody who has the right."""
    state = State(row.state)
    begun = row.version_after is not None
    found = []
    if state == State.SCOPED:
        found.append("approve")
    if State.REFUSED in states.LEGAL[state] and not begun:
        found.append("refuse")
    if state == State.REFUSED:
        found.append("tell-refusal")
    if state in (*states.WAITING, *states.UNDERWAY) and not row.extension:
        found.append("extend")
    if state in (State.APPROVED, *states.UNDERWAY, *states.ENDING):
        found.append("run")
    return [*found, "tell"]


def _model(workspace: Workspace, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of an outcome; files by their path within the workspace."""
    shown = {**entry, "weights": _within(workspace, entry.get("weights"))}
    if entry.get("next"):
        shown["next"] = str(entry["next"]).replace(str(workspace.root), workspace.root.name)
    if entry.get("interim"):
        interim = dict(entry["interim"])
        shown["interim"] = {**interim, "weights": _within(workspace, interim.get("weights"))}
    return shown


def _within(workspace: Workspace, path: str | None) -> str | None:
    if path is None:
        return None
    file = Path(path)
    return str(file.relative_to(workspace.root)) if file.is_relative_to(workspace.root) else file.name
