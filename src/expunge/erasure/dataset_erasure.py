# SPDX-License-Identifier: Apache-2.0
"""Erases the samples of a batch of requests from their dataset, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.catalog import clock, model_store, request_store
from expunge.catalog.dataset_store import erase
from expunge.catalog.states import State
from expunge.catalog.tables import RequestRow
from expunge.erasure.descent import record_training_samples
from expunge.erasure.intake import add_row
from expunge.erasure.scope import ErasureRequest, Scope, scope_in_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace


@dataclass(frozen=True)
class QueuedRequest:
    """One request of a batch; all requests of a batch have the same dataset, models and method.

    Attributes:
        request_id: Id of the request.
        ask: Its arguments.
        queued: Whether it is in the catalog; otherwise it is opened together with its erasure.
        ground, note: Of a request that is not in the catalog; see :class:`expunge.erasure.intake.Opening`.
    """

    request_id: str
    ask: ErasureRequest
    queued: bool = True
    ground: str | None = None
    note: str | None = None


def erase_samples(
    workspace: Workspace,
    batch: Sequence[QueuedRequest],
    scopes: Sequence[Scope],
    models: list[str],
    actor: str,
) -> list[tuple[QueuedRequest, Scope]]:
    """Erase the samples of each request; each makes a version of the dataset.

    Args:
        workspace: The workspace of the requests.
        batch: The requests.
        scopes: The scope of each.
        models: Names of the models that they concern.
        actor: Name of the person who runs them.

    Returns:
        The requests that were started, each with its scope. A request that another process has started is
        left out.
    """
    started: list[tuple[QueuedRequest, Scope]] = []
    at = workspace.clock()
    with workspace.session(write=True) as session:
        request_store.check_clock(session, at, workspace.settings.rules)
        for queued, resolved in zip(batch, scopes, strict=True):
            # Samples that an earlier request of the batch erased are no longer in the scope of a later one.
            scope = scope_in_session(session, workspace.key, queued.ask) if started else resolved
            if not queued.queued:
                dates = at, clock.due(at, workspace.settings.rules)
                row = add_row(session, queued.ask, scope, queued.request_id, models, dates, at, actor)
                row.ground, row.note = queued.ground, queued.note
                request_store.change_state(session, row, State.APPROVED, at, actor, "forget")
            else:
                row = model_store.get_request(session, queued.request_id)
            if _start(session, workspace, row, scope, models, actor):
                started.append((queued, scope))
    return started


def _start(
    session: Session,
    workspace: Workspace,
    row: RequestRow,
    scope: Scope,
    models: list[str],
    actor: str,
) -> bool:
    """Erase the samples of one request and move it to ``running``.

    Returns:
        False if the request does not wait for execution, because another process has started it.
    """
    state, at = State(row.state), workspace.clock()
    if row.version_after is not None or state not in (State.APPROVED, State.FAILED, State.RESUMED):
        return False
    current = scope.selection.version
    earlier = set(scope.selection.already_erased_by.values())
    number = current.number
    if scope.taken:
        record_training_samples(workspace, session, current.dataset_id, scope.taken, row.id)
        version = erase(
            session,
            current,
            set(scope.selection.paths),
            set(scope.selection.subjects),
            request_id=row.id,
            key=workspace.key,
        )
        number = version.number
    else:  # an earlier request erased the samples: this one waits for the same models
        models = sorted(
            {m for w in model_store.unfinished_requests(session) if w.id in earlier for m in w.models}
        )
    if state == State.FAILED:
        request_store.change_state(session, row, State.RESUMED, at, actor)
    row.version_before, row.version_after = current.number, number
    row.selection = {
        **row.selection,
        "samples": scope.samples,
        "subjects": len(scope.selection.subjects),
        "models": models,
    }
    detail = {"dataset": f"{current.name}@{number}", "erased_before_by": sorted(earlier)}
    request_store.change_state(session, row, State.RUNNING, at, actor, detail=detail)
    return True
