# SPDX-License-Identifier: Apache-2.0
"""Models that a request's user had left out: until they have forgotten too, the request cannot be closed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.catalog import requests as queue
from expunge.catalog import states
from expunge.catalog.datasets import get_version, load_erased
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.progress import Progress
from expunge.queue import originals
from expunge.queue.decoded import remember_decoded
from expunge.steps.affected import Descendant
from expunge.steps.descent import descents_of
from expunge.steps.settling import holders

if TYPE_CHECKING:
    from expunge.workspace import Workspace

_TAKEN_UP = (*states.UNDERWAY, State.EXECUTED)


def left_out(workspace: Workspace, request_id: str, only: Collection[str] = ()) -> list[str]:
    """Return the live models that hold what a request erased and that it does not concern.

    Args:
        workspace: Where the request is known.
        request_id: Which request; one that was not executed, or is closed, has none.
        only: Names of models; none: all.
    """
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        if row is None or row.version_after is None or State(row.state) not in _TAKEN_UP:
            return []
        named = set(row.selection.get("models", []))
    found = holders(workspace, request_id)
    return [name for name in found if name not in named and (not only or name in only)]


def take_up(workspace: Workspace, request_id: str, names: Collection[str], actor: str) -> None:
    """Let a request concern further models; it is underway again until they are done.

    Args:
        workspace: Where the request is known.
        request_id: Which request.
        names: What :func:`left_out` returned, or some of it.
        actor: Who wants it.
    """
    with workspace.session(write=True) as session:
        row = catalog.get_request(session, request_id)
        if State(row.state) not in _TAKEN_UP:
            return  # another process was faster
        row.selection = {**row.selection, "models": sorted({*row.selection.get("models", []), *names})}
        detail = {"further_models": len(names)}
        if row.state == State.EXECUTED:
            queue.move(session, row, State.RESUMED, workspace.clock(), actor, "left-out", detail)
        else:
            queue.note(session, row, workspace.clock(), actor, "left-out", detail)


def delete_originals(workspace: Workspace, request_id: str, progress: Progress) -> int:
    """Delete a request's originals, unless an adopted model has still to be shown what it shall forget.

    Returns:
        How many files were deleted; those that stay are counted as left when the request is settled.
    """
    with workspace.session() as session:
        adopted = {p.name for p in catalog.live(session) if p.plan_digest is None}
    waiting = [name for name in holders(workspace, request_id) if name in adopted]
    if waiting:
        progress.say(
            f"The originals stay until {', '.join(waiting)} has forgotten them: it needs them for that."
        )
        return 0
    remember_decoded(workspace, request_id)
    return originals.delete_originals(workspace, request_id)


def wants_no_originals(workspace: Workspace, request_id: str) -> bool:
    """Whether a request that is still open asked for its originals to be deleted."""
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        return bool(row is not None and (row.selection.get("asked") or {}).get("delete_originals"))


def preview(
    workspace: Workspace, request_id: str, names: Collection[str], method: str
) -> list[dict[str, Any]]:
    """Say what that would mean for each model, in the form of ``models`` in ``forget --dry-run --json``."""
    found = []
    with workspace.session() as session:
        dataset_id = catalog.get_request(session, request_id).dataset_id
        heirs = descents_of(workspace, session, dataset_id, request_id)
        for name in names:
            if name in heirs:
                found.append(Descendant(heirs[name].model, heirs[name]).preview(method))
                continue
            published = catalog.find_model(session, name)
            version = get_version(session, published.dataset, published.dataset_version)
            rows = load_erased(session, version)
            saw = sum(by == request_id and sample.split == "train" for sample, by in rows)
            how = method if published.plan_digest is None else "exact"
            shown = {"model": published.label, "saw": saw, "method": how, "cost_predicted": None}
            found.append({**shown, "public_data": False, "map": []})
    return found
