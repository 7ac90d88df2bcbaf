# SPDX-License-Identifier: Apache-2.0
"""Queries for one request, from its receipt to its certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import request_store, states
from expunge.catalog.model_store import get_request
from expunge.catalog.states import State
from expunge.erasure.next_step import next_step
from expunge.erasure.scope import ErasureRequest, affected_by, preview, resolve_scope
from expunge.errors import Conflict
from expunge.web.queries.audits import audits
from expunge.web.queries.queue import request_summary

if TYPE_CHECKING:
    from expunge.catalog.tables import RequestRow
    from expunge.workspace import Workspace


def request_details(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Return a request with its events, results, audits and possible actions.

    Returns:
        The output of ``request show --json``, and ``outcome`` (for each model, as of ``forget --json`` with
        paths relative to the workspace; None before the run), ``originals_left``, ``audits``, ``certified``,
        ``can`` (any of approve, refuse, tell-refusal, extend, tell, run), and ``next`` (the next step, as
        text).

    Raises:
        NotFound: If the request does not exist.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        details = request_summary(workspace, session, row, workspace.clock())
        details["events"] = request_store.events(session, request_id)
        result, can = dict(row.result or {}), _can(row)
        details["settings"] = {
            k: v for k, v in (row.selection.get("settings") or {}).items() if k != "hyperparameters"
        }
        details["class_request"] = row.selection.get("class") is not None
        details["version_before"], details["version_after"] = row.version_before, row.version_after
    details["outcome"] = [_model(workspace, m) for m in result["models"]] if "models" in result else None
    details["originals_left"] = result.get("originals_left")
    details["audits"] = audits(workspace, request_id)
    details["can"] = can
    details["four_eyes"] = workspace.settings.approval.four_eyes
    following = next_step(workspace, request_id)
    details["next"] = following.text.replace(str(workspace.root), ".expunge")
    return details


def request_selection(workspace: Workspace, request_id: str) -> dict[str, Any] | None:
    """Return the selection of a request (ids of subjects, paths of samples), or None once it is erased.

    Raises:
        NotFound: If the request does not exist.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        asked, note = row.selection.get("asked"), row.note
    return None if asked is None else {**asked, "note": note}


def scope(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Return the effect and predicted cost of executing a request, as of ``forget --dry-run --json``.

    Raises:
        NotFound: If the request does not exist.
        Conflict: If it is no longer waiting.
        InputError: If its selection is no longer in the dataset.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        if State(row.state) not in states.WAITING_STATES or "asked" not in row.selection:
            raise Conflict(
                f"{request_id} is {row.state}.", "Only waiting requests have a scope.", "See its outcome."
            )
        erasure_request = ErasureRequest.from_record(row.method, row.selection)
    resolved = resolve_scope(workspace, erasure_request)
    affected = affected_by(workspace, erasure_request, resolved) if resolved.taken else []
    summary = preview(erasure_request, resolved, affected)
    erased = summary.pop("already_erased_by")
    return {**summary, "erased_before": sorted(set(erased.values()))}


def check_runnable(workspace: Workspace, request_ids: Sequence[str]) -> None:
    """Check that requests can be run now.

    Raises:
        NotFound: If a request does not exist.
        Conflict: If a request is not approved, or nothing is left to run.
    """
    with workspace.session() as session:
        for request_id in request_ids:
            row = get_request(session, request_id)
            if "run" not in _can(row):
                why = "Approve it first." if row.state in states.WAITING_STATES else ""
                raise Conflict(f"{request_id} is {row.state}.", "It cannot be run now.", why)


def _can(row: RequestRow) -> list[str]:
    """Return the actions that the state of a request allows, apart from permissions."""
    state = State(row.state)
    started = row.version_after is not None
    actions = []
    if state == State.SCOPED:
        actions.append("approve")
    if State.REFUSED in states.TRANSITIONS[state] and not started:
        actions.append("refuse")
    if state == State.REFUSED:
        actions.append("tell-refusal")
    if state in (*states.WAITING_STATES, *states.RUNNING_STATES) and not row.extension:
        actions.append("extend")
    if state in (State.APPROVED, *states.RUNNING_STATES, *states.EXECUTED_STATES):
        actions.append("run")
    return [*actions, "tell"]


def _model(workspace: Workspace, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's entry of an outcome, with paths relative to the workspace."""
    result = {**entry, "weights": _within(workspace, entry.get("weights"))}
    if entry.get("next"):
        result["next"] = str(entry["next"]).replace(str(workspace.root), workspace.root.name)
    if entry.get("interim"):
        interim = dict(entry["interim"])
        result["interim"] = {**interim, "weights": _within(workspace, interim.get("weights"))}
    return result


def _within(workspace: Workspace, path: str | None) -> str | None:
    if path is None:
        return None
    file = Path(path)
    return str(file.relative_to(workspace.root)) if file.is_relative_to(workspace.root) else file.name
