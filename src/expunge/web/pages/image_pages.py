# SPDX-License-Identifier: Apache-2.0
"""Pages with images of people: near-duplicates, and detections before and after an erasure.

Images are sent as thumbnails, only to users with the permission, only from folders given with ``--root``, and
are never cached by browsers. Their addresses hold row ids, not paths.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Request
from starlette.responses import Response

from expunge.data.thumbnail import thumbnail
from expunge.erasure import near_duplicates
from expunge.errors import InputError, NotFound
from expunge.models.comparison import CONFIDENCE, detector_pairs
from expunge.web.auth.access import Identity, allowed, settings_of, workspace_of
from expunge.web.jobs import job_store
from expunge.web.pages.request_page import start
from expunge.web.pages.view import go, is_fragment, page
from expunge.web.queries.pages import MOST_ROWS

router = APIRouter(prefix="/requests/{request_id}")
SIDES = (220, 640)  # pixels
Row = Annotated[int, Path(ge=1, le=MOST_ROWS)]


@router.get("/lookalikes")
def lookalikes(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("pictures.view"))],
) -> Response:
    """Show images similar to those that the request erases."""
    found = near_duplicates.find_near_duplicates(workspace_of(request), request_id)
    roots = bool(settings_of(request).roots)
    return page(request, "lookalikes", active="requests", request_id=request_id, found=found, roots=roots)


@router.post("/pairs")
def decide(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("duplicates.decide"))],
    first: Annotated[int, Form(ge=1, le=MOST_ROWS)],
    second: Annotated[int, Form(ge=1, le=MOST_ROWS)],
    decision: Annotated[str, Form()],
) -> Response:
    """Record a decision about a pair."""
    workspace = workspace_of(request)
    near_duplicates.decide_pair(workspace, request_id, first, second, decision)
    if not is_fragment(request):
        return go(f"/requests/{request_id}/lookalikes", "recorded")
    found = near_duplicates.find_near_duplicates(workspace, request_id)
    pairs = [p for p in found["pairs"] if (p["a"], p["b"]) == (first, second)]
    if not pairs:
        raise NotFound("There is no such pair.", "It was decided and is no longer shown.", "")
    return page(request, "pair", request_id=request_id, p=pairs[0])


@router.get("/pictures/{sample}.jpg")
def picture(
    request: Request,
    request_id: str,
    sample: Row,
    me: Annotated[Identity, Depends(allowed("pictures.view"))],
    side: int = SIDES[0],
) -> Response:
    """Return a thumbnail of a sample of the request's dataset."""
    file = near_duplicates.image_file(workspace_of(request), request_id, sample)
    jpeg = thumbnail(file, side) if side in SIDES and settings_of(request).below_a_root(file) else None
    if jpeg is None:
        raise NotFound("There is no such picture.", "", "")
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.get("/comparison")
def comparison(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("pictures.view"))]
) -> Response:
    """Show the detections before and after the erasure."""
    done = (j for j in job_store.of_request(workspace_of(request), request_id) if j.state == job_store.DONE)
    newest = next((j for j in done if j.kind == job_store.COMPARE), None)
    if newest is None:
        raise NotFound("There is no comparison yet.", "", "Start one on the request's page.")
    context = {"compared": newest.result, "roots": bool(settings_of(request).roots), "least": CONFIDENCE}
    return page(request, "comparison", active="requests", request_id=request_id, **context)


@router.post("/comparison")
def compare(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("pictures.view"))]
) -> Response:
    """Start a job that runs the detectors before and after the erasure."""
    if not any(detector_pairs(workspace_of(request), request_id)):
        raise InputError("There are no two detectors to compare.", "Their files do not exist.", "")
    return start(request, request_id, job_store.COMPARE, {"request": request_id}, me)
