# SPDX-License-Identifier: Apache-2.0
"""Routes for jobs: start, list and follow them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from expunge.errors import InputError
from expunge.web import queries
from expunge.web.api.job_schemas import JobShown, Run, RunRequests
from expunge.web.api.schemas import CHANGES, READS, Cursor, IdempotencyKey, Limit, Paged
from expunge.web.auth.access import Identity, allowed, still_allowed, workspace_of
from expunge.web.jobs import job_store
from expunge.web.queries import pages

router = APIRouter(prefix="/jobs", tags=["jobs"])
View = Annotated[Identity, Depends(allowed("desk.view"))]
JobId = Annotated[str, Path(pattern=r"^j-[0-9a-f]{16}$", examples=["j-0c1d2e3f4a5b6978"])]
EVENT = {  # schema of each event in the stream
    "type": "object",
    "properties": {"event": {"enum": ["progress", "end"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
POLL_SECONDS, COMMENT_SECONDS = 0.5, 15.0


@router.get("", response_model=Paged[JobShown], responses=READS)
def list_jobs(
    request: Request,
    _: View,
    state: Annotated[list[job_store.State], Query(description="Only these states.")] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List jobs, newest first."""
    before = None
    if cursor is not None:
        at, last = pages.decode(cursor, str, str)
        try:
            before = datetime.fromisoformat(at), last
        except ValueError as error:
            raise InputError("The cursor is not valid for this list.", "", "Omit it.") from error
    found = job_store.page(workspace_of(request), states=state, limit=limit + 1, before=before)
    jobs, more = found[:limit], len(found) > limit
    return {
        "items": jobs,
        "next": pages.encode([jobs[-1].created, jobs[-1].id]) if more else None,
        "total": None,
    }


@router.post("", response_model=JobShown, status_code=202, responses=CHANGES)
def run_requests(
    request: Request,
    body: Run,
    user: Annotated[Identity, Depends(allowed("requests.run"))],
    key: IdempotencyKey = None,
) -> Any:
    """Start a job that executes several requests together, or all that are due."""
    workspace = workspace_of(request)
    parameters: dict[str, Any] = {}
    if isinstance(body, RunRequests):
        queries.check_runnable(workspace, body.requests)
        parameters["requests"] = list(dict.fromkeys(body.requests))
    return request.app.state.supervisor.submit(body.kind, parameters, user.name, key)


@router.get("/{job_id}", response_model=JobShown, responses=READS)
def show_job(request: Request, job_id: JobId, _: View) -> Any:
    """Show a job."""
    return job_store.find(workspace_of(request), job_id)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        **READS,
        200: {
            "description": "Server-sent events: `progress` after a change, `end` at the end. The data of each"
            " event is the job. The stream also ends when the token or session ends.",
            "content": {"text/event-stream": {"schema": EVENT}},
        },
    },
)
async def follow_job(request: Request, job_id: JobId, _: View) -> StreamingResponse:
    """Stream the events of a job until it ends, or until the token or session ends."""
    workspace = workspace_of(request)
    first = await run_in_threadpool(job_store.find, workspace, job_id)

    def read_job() -> job_store.Job | None:
        return job_store.find(workspace, job_id) if still_allowed(request) else None

    async def events() -> AsyncIterator[str]:
        job, sent, quiet = first, None, 0.0
        while True:
            if job != sent:
                yield _event("end" if job.ended else "progress", job)
                sent, quiet = job, 0.0
            if job.ended:
                return
            await asyncio.sleep(POLL_SECONDS)
            current = await run_in_threadpool(read_job)
            if current is None:
                return
            job, quiet = current, quiet + POLL_SECONDS
            if quiet >= COMMENT_SECONDS:
                yield ": still at it\n\n"
                quiet = 0.0

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _event(name: str, job: job_store.Job) -> str:
    return f"event: {name}\ndata: {json.dumps(asdict(job))}\n\n"
