# SPDX-License-Identifier: Apache-2.0
"""Routes for erasure requests: file, list, show, decide, run."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from expunge.catalog.states import State
from expunge.erasure import intake
from expunge.erasure.intake import Opening
from expunge.erasure.scope import ErasureRequest
from expunge.web import queries
from expunge.web.api.job_schemas import JobShown
from expunge.web.api.request_schemas import (
    Extend,
    Filed,
    FileRequest,
    Recipient,
    Refuse,
    RequestDetail,
    Scope,
    Selection,
    Story,
)
from expunge.web.api.schemas import (
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
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.jobs import job_store

router = APIRouter(prefix="/requests", tags=["requests"])
View = Annotated[Identity, Depends(allowed("desk.view"))]


@router.get("", response_model=Paged[RequestDetail], responses=READS)
def list_requests(
    request: Request,
    _: View,
    state: Annotated[list[State], Query(description="Only these states.")] = [],  # noqa: B006 (not changed)
    dataset: Annotated[Ref | None, Query(description="Only this dataset.")] = None,
    overdue: Annotated[bool, Query(description="Only overdue requests.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List requests, the most urgent first, closed ones last."""
    found = queries.queue(
        workspace_of(request), states=state, dataset=dataset, overdue=overdue, limit=limit, cursor=cursor
    )
    return paged(found)


@router.post(
    "",
    response_model=Filed,
    status_code=201,
    responses={**CHANGES, 200: {"model": Filed, "description": "It was filed or erased before."}},
)
def file_request(
    request: Request,
    response: Response,
    body: FileRequest,
    user: Annotated[Identity, Depends(allowed("requests.file"))],
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    """File a request. It is scoped and waits for approval; nothing is erased yet."""
    erasure_request = ErasureRequest(
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
        key=json.dumps([user.name, key]) if key else None,  # keys are separate for each account
        ground=str(body.ground) if body.ground else None,
        due=body.due,
        actor=user.name,
        note=body.note,
        recipients=tuple(dict.fromkeys(body.recipients)),
    )
    opened = intake.open_request(workspace_of(request), erasure_request, opening)
    request.state.object = opened["request"]
    if opened["reused"] or "due" not in opened:
        response.status_code = 200
    response.headers["Location"] = f"{request.url.path}/{opened['request']}"
    erased = opened.get("already_erased_by") or {}
    return {
        **{k: opened.get(k) for k in ("request", "state", "due", "samples", "subjects", "reused")},
        "models": opened.get("models", []),
        "already_erased_by": sorted(set(erased.values())),
    }


@router.get("/counts", response_model=dict[str, Any], responses=READS)
def count_requests(request: Request, _: View) -> dict[str, Any]:
    """Count requests by state, and overdue ones."""
    return queries.counts(workspace_of(request))


@router.get("/{request_id}", response_model=Story, responses=READS)
def show_request(request: Request, request_id: RequestId, _: View) -> dict[str, Any]:
    """Show a request from its receipt to its certificate, without its selection."""
    return queries.request_details(workspace_of(request), request_id)


@router.get("/{request_id}/selection", response_model=Selection, responses=READS)
def show_selection(
    request: Request,
    request_id: RequestId,
    _: Annotated[Identity, Depends(allowed("selection.view"))],
) -> dict[str, Any]:
    """Show the selection of a request, until it is erased at closing."""
    stored = queries.request_selection(workspace_of(request), request_id)
    selection = stored or {"subjects": [], "samples": [], "listed": [], "class": None, "note": None}
    return {
        "request": request_id,
        "forgotten": stored is None,
        "class_name": selection["class"],
        **{k: selection[k] for k in ("subjects", "samples", "listed", "note")},
    }


@router.get("/{request_id}/scope", response_model=Scope, responses={**READS, **CHANGES})
def show_scope(request: Request, request_id: RequestId, _: View) -> dict[str, Any]:
    """Show the expected effect and the predicted cost of executing a request."""
    return queries.scope(workspace_of(request), request_id)


@router.post("/{request_id}/approve", response_model=RequestDetail, responses=CHANGES)
def approve(
    request: Request,
    request_id: RequestId,
    user: Annotated[Identity, Depends(allowed("requests.approve"))],
) -> dict[str, Any]:
    """Approve a request. With the four-eyes rule, the person user filed it cannot approve it."""
    return _with_certified(intake.approve(workspace_of(request), request_id, user.name))


@router.post("/{request_id}/refuse", response_model=RequestDetail, responses=CHANGES)
def refuse(
    request: Request,
    request_id: RequestId,
    body: Refuse,
    user: Annotated[Identity, Depends(allowed("requests.refuse"))],
) -> dict[str, Any]:
    """Refuse a request with a legal reason, or record when the person was informed of the refusal."""
    reason = str(body.reason) if body.reason else None
    done = intake.refuse(workspace_of(request), request_id, reason, body.note, body.told, user.name)
    return _with_certified(done)


@router.post("/{request_id}/extend", response_model=RequestDetail, responses=CHANGES)
def extend(
    request: Request,
    request_id: RequestId,
    body: Extend,
    user: Annotated[Identity, Depends(allowed("requests.extend"))],
) -> dict[str, Any]:
    """Extend the due date. The person must have been informed within the first month."""
    done = intake.extend(
        workspace_of(request), request_id, str(body.reason), body.told, body.months, user.name
    )
    return _with_certified(done)


@router.post("/{request_id}/recipients", response_model=RequestDetail, responses=CHANGES)
def tell(
    request: Request,
    request_id: RequestId,
    body: Recipient,
    user: Annotated[Identity, Depends(allowed("requests.tell"))],
) -> dict[str, Any]:
    """Record that a recipient of the data was informed of the erasure, or why not (GDPR article 19)."""
    why_not = str(body.why_not) if body.why_not else None
    return _with_certified(
        intake.record_recipient_notice(
            workspace_of(request), request_id, body.name, body.on, why_not, user.name
        )
    )


@router.post("/{request_id}/run", response_model=JobShown, status_code=202, responses=CHANGES)
def run(
    request: Request,
    request_id: RequestId,
    user: Annotated[Identity, Depends(allowed("requests.run"))],
    key: IdempotencyKey = None,
) -> Any:
    """Start a job that executes a request, or finishes its execution."""
    workspace = workspace_of(request)
    queries.check_runnable(workspace, [request_id])
    return request.app.state.supervisor.submit(job_store.RUN, {"requests": [request_id]}, user.name, key)


def _with_certified(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "certified": found["certificate"] is not None}
