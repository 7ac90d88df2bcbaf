# SPDX-License-Identifier: Apache-2.0
"""Finds models that a request left out and that still hold its data, and adds them to the request.

The request cannot be closed before these models are updated too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from expunge.catalog import model_store, request_store, states
from expunge.catalog.dataset_store import get_version, load_erased
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.erasure.closing import models_holding
from expunge.erasure.decoded_copies import remember_decoded
from expunge.erasure.descent import descents_after_erasure
from expunge.erasure.impact import Descendant
from expunge.progress import Progress
from expunge.purge import originals

if TYPE_CHECKING:
    from expunge.workspace import Workspace

_OPEN_FOR_MODELS = (*states.RUNNING_STATES, State.EXECUTED)


def find_left_out(workspace: Workspace, request_id: str, only: Collection[str] = ()) -> list[str]:
    """Return the names of live models that hold data erased by a request but are not part of it.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request; a request that has not begun or is closed has no such models.
        only: Names of the models to consider; empty: all.
    """
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        if row is None or row.version_after is None or State(row.state) not in _OPEN_FOR_MODELS:
            return []
        named = set(row.selection.get("models", []))
    found = models_holding(workspace, request_id)
    return [name for name in found if name not in named and (not only or name in only)]


def add_models(workspace: Workspace, request_id: str, names: Collection[str], actor: str) -> None:
    """Add models to a request, which is underway again until they are updated.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        names: Names of models from :func:`left_out`.
        actor: Name of the person who adds them.
    """
    with workspace.session(write=True) as session:
        row = model_store.get_request(session, request_id)
        if State(row.state) not in _OPEN_FOR_MODELS:
            return  # another process has added them and closed the request
        row.selection = {**row.selection, "models": sorted({*row.selection.get("models", []), *names})}
        detail = {"further_models": len(names)}
        if row.state == State.EXECUTED:
            request_store.change_state(
                session, row, State.RESUMED, workspace.clock(), actor, "left-out", detail
            )
        else:
            request_store.record_note(session, row, workspace.clock(), actor, "left-out", detail)


def delete_originals(workspace: Workspace, request_id: str, progress: Progress) -> int:
    """Delete a request's originals, unless an adopted model still needs them for its unlearning.

    Returns:
        Number of deleted files.
    """
    with workspace.session() as session:
        adopted = {p.name for p in model_store.newest_versions(session) if p.plan_digest is None}
    waiting = [name for name in models_holding(workspace, request_id) if name in adopted]
    if waiting:
        progress.say(
            f"The originals stay until {', '.join(waiting)} has forgotten them: it needs them for that."
        )
        return 0
    remember_decoded(workspace, request_id)
    return originals.delete_originals(workspace, request_id)


def deletes_originals(workspace: Workspace, request_id: str) -> bool:
    """Return whether a request that is not closed asks for its originals to be deleted."""
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        return bool(row is not None and (row.selection.get("asked") or {}).get("delete_originals"))


def preview(
    workspace: Workspace, request_id: str, names: Collection[str], method: str
) -> list[dict[str, Any]]:
    """Return the predicted update of each added model, in the form of ``forget --dry-run --json``.

    Args:
        workspace: The workspace of the request.
        request_id: Id of the request.
        names: Names of models from :func:`left_out`.
        method: Method for adopted models.
    """
    found = []
    with workspace.session() as session:
        dataset_id = model_store.get_request(session, request_id).dataset_id
        descents = descents_after_erasure(workspace, session, dataset_id, request_id)
        for name in names:
            if name in descents:
                found.append(Descendant(descents[name].model, descents[name]).preview(method))
                continue
            published = model_store.find_model(session, name)
            version = get_version(session, published.dataset, published.dataset_version)
            rows = load_erased(session, version)
            saw = sum(by == request_id and sample.split == "train" for sample, by in rows)
            found.append(
                {
                    "model": published.label,
                    "saw": saw,
                    "method": method if published.plan_digest is None else "exact",
                    "cost_predicted": None,
                    "public_data": False,
                    "map": [],
                }
            )
    return found
