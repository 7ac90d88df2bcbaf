# SPDX-License-Identifier: Apache-2.0
"""Erasure requests: file, list, show, decide, run."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from expunge import desk
from expunge.catalog.states import State
from expunge.queue import intake
from expunge.queue.intake import Opening
from expunge.steps.scoping import Ask
from expunge.web import jobs
from expunge.web.api.job_shapes import JobShown
from expunge.web.api.request_shapes import (
    Extend,
    Filed,
    FileRequest,
    Recipient,
    Refuse,
    Scope,
    Selection,
    Shown,
    Story,
)
from expunge.web.api.shapes import (
    CHANGES,
    READS,
    Cursor,
    IdempotencyKey,
    Limit,
    Paged,
    Ref,
    RequestId,
    paged,
)
from expunge.web.security import Identity, allowed, workspace_of

router = APIRouter(prefix="/requests", tags=["requests"])
View = Annotated[Identity, Depends(allowed("desk.view"))]


@router.get("", response_model=Paged[Shown], responses=READS)
def list_requests(
    request: Request,
    _: View,
    state: Annotated[list[State], Query(description="Only these states.")] = [],  # noqa: B006 (not changed)
    dataset: Annotated[Ref | None, Query(description="Only of this dataset.")] = None,
    overdue: Annotated[bool, Query(description="Only what should have been answered by now.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List requests, the most pressing first; closed ones last."""
    found = desk.queue(
        workspace_of(request), states=state, dataset=dataset, overdue=overdue, limit=limit, cursor=cursor
    )
    return paged(found)


@router.post(
    "",
    response_model=Filed,
    status_code=201,
    responses={**CHANGES, 200: {"model": Filed, "description": "It was filed, or erased, before."}},
)
def file_request(
    request: Request,
    response: Response,
    body: FileRequest,
    who: Annotated[Identity, Depends(allowed("requests.file"))],
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    """File a request: it is scoped and waits for approval; nothing is erased yet."""
    ask = Ask(
        subjects=tuple(body.subjects),
        samples=tuple(body.samples),
        class_name=body.class_name,
        dataset=body.dataset,
        models=tuple(body.models),
        method=body.method,
        defer=body.defer,
    )
    opening = Opening(
        received=body.received,
        key=json.dumps([who.name, key]) if key else None,  # a key is its account's own
        ground=str(body.ground) if body.ground else None,
        due=body.due,
        actor=who.name,
        note=body.note,
        recipients=tuple(dict.fromkeys(body.recipients)),
    )
    found = intake.open_request(workspace_of(request), ask, opening)
    request.state.object = found["request"]
    if found["reused"] or "due" not in found:
        response.status_code = 200
    response.headers["Location"] = f"{request.url.path}/{found['request']}"
    erased = found.get("already_erased_by") or {}
    return {
        **{k: found.get(k) for k in ("request", "state", "due", "samples", "subjects", "reused")},
        "models": found.get("models", []),
        "already_erased_by": sorted(set(erased.values())),
    }


@router.get("/counts", response_model=dict[str, Any], responses=READS)
def count_requests(request: Request, _: View) -> dict[str, Any]:
    """Count requests by state, and those that are overdue."""
    return desk.counts(workspace_of(request))


@router.get("/{request_id}", response_model=Story, responses=READS)
def show_request(request: Request, request_id: RequestId, _: View) -> dict[str, Any]:
    """Show a request from its receipt to its certificate, without saying whom it concerns."""
    return desk.story(workspace_of(request), request_id)


@router.get("/{request_id}/selection", response_model=Selection, responses=READS)
def show_selection(
    request: Request,
    request_id: RequestId,
    _: Annotated[Identity, Depends(allowed("selection.view"))],
) -> dict[str, Any]:
    """Show whom or what a request concerns, while that is known."""
    asked = desk.selected(workspace_of(request), request_id)
    known = asked or {"subjects": [], "samples": [], "listed": [], "class": None, "note": None}
    return {
        "request": request_id,
        "forgotten": asked is None,
        "class_name": known["class"],
        **{k: known[k] for k in ("subjects", "samples", "listed", "note")},
    }


@router.get("/{request_id}/scope", response_model=Scope, responses={**READS, **CHANGES})
def show_scope(request: Request, request_id: RequestId, _: View) -> dict[str, Any]:
    """Say what executing a request would do, and what it is predicted to cost."""
    return desk.scope(workspace_of(request), request_id)


@router.post("/{request_id}/approve", response_model=Shown, responses=CHANGES)
def approve(
    request: Request,
    request_id: RequestId,
    who: Annotated[Identity, Depends(allowed("requests.approve"))],
) -> dict[str, Any]:
    """Approve a request. Where the workspace wants four eyes, whoever filed it cannot."""
    return _as_shown(intake.approve(workspace_of(request), request_id, who.name))


@router.post("/{request_id}/refuse", response_model=Shown, responses=CHANGES)
def refuse(
    request: Request,
    request_id: RequestId,
    body: Refuse,
    who: Annotated[Identity, Depends(allowed("requests.refuse"))],
) -> dict[str, Any]:
    """Refuse a request for a reason that the law knows; then record when the person was told."""
    reason = str(body.reason) if body.reason else None
    done = intake.refuse(workspace_of(request), request_id, reason, body.note, body.told, who.name)
    return _as_shown(done)


@router.post("/{request_id}/extend", response_model=Shown, responses=CHANGES)
def extend(
    request: Request,
    request_id: RequestId,
    body: Extend,
    who: Annotated[Identity, Depends(allowed("requests.extend"))],
) -> dict[str, Any]:
    """Put off the due date, if the person was told within the first month."""
    done = intake.extend(
        workspace_of(request), request_id, str(body.reason), body.told, body.months, who.name
    )
    return _as_shown(done)


@router.post("/{request_id}/recipients", response_model=Shown, responses=CHANGES)
def tell(
    request: Request,
    request_id: RequestId,
    body: Recipient,
    who: Annotated[Identity, Depends(allowed("requests.tell"))],
) -> dict[str, Any]:
    """Record that a recipient of the data was told of the erasure, or why not (article 19)."""
    why_not = str(body.why_not) if body.why_not else None
    return _as_shown(intake.tell(workspace_of(request), request_id, body.name, body.on, why_not, who.name))


@router.post("/{request_id}/run", response_model=JobShown, status_code=202, responses=CHANGES)
def run(
    request: Request,
    request_id: RequestId,
    who: Annotated[Identity, Depends(allowed("requests.run"))],
    key: IdempotencyKey = None,
) -> Any:
    """Execute a request, or finish what was begun; a worker does it, the answer is its job."""
    workspace = workspace_of(request)
    desk.check_runnable(workspace, [request_id])
    return request.app.state.supervisor.submit(jobs.RUN, {"requests": [request_id]}, who.name, key)


def _as_shown(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "certified": found["certificate"] is not None}
