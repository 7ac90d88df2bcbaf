# SPDX-License-Identifier: Apache-2.0
"""Pages with pictures of people: near-duplicates to decide about, and a detector before and after.

A picture is sent to whoever has the right, from below a folder that the server was started for, small, and
never to be kept by a browser. Its address holds the number of a row, no path.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Request
from starlette.responses import Response

from expunge.comparison import CONFIDENCE, couples_of
from expunge.data.thumbnail import thumbnail
from expunge.desk.pages import MOST_ROWS
from expunge.errors import InputError, NotFound
from expunge.queue import likeness
from expunge.web import jobs
from expunge.web.pages.request_page import start
from expunge.web.pages.view import go, is_fragment, page
from expunge.web.security import Identity, allowed, settings_of, workspace_of

router = APIRouter(prefix="/requests/{request_id}")
SIDES = (220, 640)  # pixels
Row = Annotated[int, Path(ge=1, le=MOST_ROWS)]


@router.get("/lookalikes")
def lookalikes(
    request: Request,
    request_id: str,
    me: Annotated[Identity, Depends(allowed("pictures.view"))],
) -> Response:
    """Pictures that look like those that go."""
    found = likeness.lookalikes(workspace_of(request), request_id)
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
    """Decide about one pair."""
    workspace = workspace_of(request)
    likeness.decide_pair(workspace, request_id, first, second, decision)
    if not is_fragment(request):
        return go(f"/requests/{request_id}/lookalikes", "recorded")
    found = likeness.lookalikes(workspace, request_id)
    pairs = [p for p in found["pairs"] if (p["a"], p["b"]) == (first, second)]
    if not pairs:
        raise NotFound("There is no such pair.", "It is decided, and not shown any more.", "")
    return page(request, "pair", request_id=request_id, p=pairs[0])


@router.get("/pictures/{sample}.jpg")
def picture(
    request: Request,
    request_id: str,
    sample: Row,
    me: Annotated[Identity, Depends(allowed("pictures.view"))],
    side: int = SIDES[0],
) -> Response:
    """A picture of the request's dataset."""
    file = likeness.picture_of(workspace_of(request), request_id, sample)
    shown = thumbnail(file, side) if side in SIDES and settings_of(request).below_a_root(file) else None
    if shown is None:
        raise NotFound("There is no such picture.", "", "")
    return Response(shown, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.get("/comparison")
def comparison(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("pictures.view"))]
) -> Response:
    """What the detectors found, before and after."""
    done = (j for j in jobs.of_request(workspace_of(request), request_id) if j.state == jobs.DONE)
    newest = next((j for j in done if j.kind == jobs.COMPARE), None)
    if newest is None:
        raise NotFound("There is no comparison yet.", "", "Start one on the request's page.")
    shown = {"compared": newest.result, "roots": bool(settings_of(request).roots), "least": CONFIDENCE}
    return page(request, "comparison", active="requests", request_id=request_id, **shown)


@router.post("/comparison")
def compare(
    request: Request, request_id: str, me: Annotated[Identity, Depends(allowed("pictures.view"))]
) -> Response:
    """Let a worker run the detectors."""
    if not any(couples_of(workspace_of(request), request_id)):
        raise InputError(
            "There are no two detectors to compare.", "Their files are not there (any more).", ""
        )
    return start(request, request_id, jobs.COMPARE, {"request": request_id}, me)
