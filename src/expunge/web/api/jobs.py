# SPDX-License-Identifier: Apache-2.0
"""Long work: start it, list it, follow it."""

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

from expunge import desk
from expunge.desk import pages
from expunge.errors import InputError
from expunge.web import jobs
from expunge.web.api.job_shapes import JobShown, Run, RunRequests
from expunge.web.api.shapes import CHANGES, READS, Cursor, IdempotencyKey, Limit, Paged
from expunge.web.security import Identity, allowed, still_allowed, workspace_of

router = APIRouter(prefix="/jobs", tags=["jobs"])
View = Annotated[Identity, Depends(allowed("desk.view"))]
JobId = Annotated[str, Path(pattern=r"^j-[0-9a-f]{16}$", examples=["j-0c1d2e3f4a5b6978"])]
EVENT = {  # of each event in the stream
    "type": "object",
    "properties": {"event": {"enum": ["progress", "end"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
LOOK_SECONDS, COMMENT_SECONDS = 0.5, 15.0


@router.get("", response_model=Paged[JobShown], responses=READS)
def list_jobs(
    request: Request,
    _: View,
    state: Annotated[list[jobs.State], Query(description="Only these states.")] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List jobs, the newest first."""
    before = None
    if cursor is not None:
        at, last = pages.decode(cursor, str, str)
        try:
            before = datetime.fromisoformat(at), last
        except ValueError as error:
            raise InputError("That is no cursor of this list.", "", "Leave it out.") from error
    found = jobs.page(workspace_of(request), states=state, limit=limit + 1, before=before)
    shown, more = found[:limit], len(found) > limit
    return {
        "items": shown,
        "next": pages.encode([shown[-1].created, shown[-1].id]) if more else None,
        "total": None,
    }


@router.post("", response_model=JobShown, status_code=202, responses=CHANGES)
def run_requests(
    request: Request,
    body: Run,
    who: Annotated[Identity, Depends(allowed("requests.run"))],
    key: IdempotencyKey = None,
) -> Any:
    """Execute several requests together, or all that are due; a worker does it."""
    workspace = workspace_of(request)
    parameters: dict[str, Any] = {}
    if isinstance(body, RunRequests):
        desk.check_runnable(workspace, body.requests)
        parameters["requests"] = list(dict.fromkeys(body.requests))
    return request.app.state.supervisor.submit(body.kind, parameters, who.name, key)


@router.get("/{job_id}", response_model=JobShown, responses=READS)
def show_job(request: Request, job_id: JobId, _: View) -> Any:
    """Show a job."""
    return jobs.find(workspace_of(request), job_id)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        **READS,
        200: {
            "description": "Server-sent events: `progress` when something changed, `end` at the end; the"
            " data of each is the job. The stream also ends when the token or session does.",
            "content": {"text/event-stream": {"schema": EVENT}},
        },
    },
)
async def follow_job(request: Request, job_id: JobId, _: View) -> StreamingResponse:
    """Follow a job until it ends, or until you may no longer see it."""
    workspace = workspace_of(request)
    first = await run_in_threadpool(jobs.find, workspace, job_id)

    def look() -> jobs.Job | None:
        return jobs.find(workspace, job_id) if still_allowed(request) else None

    async def events() -> AsyncIterator[str]:
        job, told, quiet = first, None, 0.0
        while True:
            if job != told:
                yield _event("end" if job.ended else "progress", job)
                told, quiet = job, 0.0
            if job.ended:
                return
            await asyncio.sleep(LOOK_SECONDS)
            now = await run_in_threadpool(look)
            if now is None:
                return
            job, quiet = now, quiet + LOOK_SECONDS
            if quiet >= COMMENT_SECONDS:
                yield ": still at it\n\n"
                quiet = 0.0

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _event(name: str, job: jobs.Job) -> str:
    return f"event: {name}\ndata: {json.dumps(asdict(job))}\n\n"
