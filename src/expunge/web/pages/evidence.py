# SPDX-License-Identifier: Apache-2.0
"""The evidence of a request: its certificate, its report, and its audits with their plots."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from markupsafe import Markup
from starlette.responses import Response

from expunge import desk
from expunge.audit.verdict import MARGIN, label_of
from expunge.catalog.models import get_request
from expunge.errors import NotFound
from expunge.evidence.audit_page import WORDS
from expunge.evidence.plain_words import in_plain_words
from expunge.steps.audits import plots_of
from expunge.web.pages.standalone import attached, document
from expunge.web.pages.view import page
from expunge.web.security import Identity, allowed, workspace_of

router = APIRouter(prefix="/requests/{request_id}")
Viewer = Annotated[Identity, Depends(allowed("desk.view"))]


@router.get("/certificate.json")
def certificate(request: Request, request_id: str, me: Viewer) -> Response:
    """The certificate's own bytes, to be saved."""
    content = desk.certificate(workspace_of(request), request_id)
    return Response(content, media_type="application/json", headers=attached(f"{request_id}.json"))


@router.get("/report")
def report(request: Request, request_id: str, me: Viewer) -> Response:
    """The report, to be looked at."""
    return document(desk.report(workspace_of(request), request_id))


@router.get("/report.html")
def report_file(request: Request, request_id: str, me: Viewer) -> Response:
    """The report, to be saved."""
    return document(desk.report(workspace_of(request), request_id), f"{request_id}.html")


@router.get("/audits/{name}")
def audit(request: Request, request_id: str, name: str, me: Viewer) -> Response:
    """An audit: what it means, its plots, its figures."""
    workspace = workspace_of(request)
    with workspace.session() as session:
        get_request(session, request_id)
    whole = name.endswith(".html")
    found = desk.audit(workspace, name.removesuffix(".html"))
    if found["request"] != request_id:
        raise NotFound("There is no such audit.", "", "See the request for its audits.")
    if whole:
        return document(desk.audit_page(workspace, name.removesuffix(".html")))
    drawn = {key: Markup(svg) for key, svg in plots_of(workspace, name).items() if svg}
    figures = [{**f, "label": label_of(f)} for f in found["figures"].values()]
    return page(
        request,
        "audit",
        active="requests",
        request_id=request_id,
        name=name,
        a=found,
        plain=in_plain_words(found),
        plots=drawn,
        figures=figures,
        words=WORDS,
        margin=MARGIN,
    )
