# SPDX-License-Identifier: Apache-2.0
"""Pages for the evidence of a request: certificate, report, and audits with plots."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from markupsafe import Markup
from starlette.responses import Response

from expunge.audits.verdict import MARGIN, label_of
from expunge.catalog.model_store import get_request
from expunge.erasure.audit import load_plots
from expunge.errors import NotFound
from expunge.evidence.audit_page import WORDS
from expunge.evidence.verdict_text import explain_verdict
from expunge.web import queries
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.pages.standalone import attached, document
from expunge.web.pages.view import page

router = APIRouter(prefix="/requests/{request_id}")
Viewer = Annotated[Identity, Depends(allowed("desk.view"))]


@router.get("/certificate.json")
def certificate(request: Request, request_id: str, me: Viewer) -> Response:
    """Download the certificate's file."""
    content = queries.certificate(workspace_of(request), request_id)
    return Response(content, media_type="application/json", headers=attached(f"{request_id}.json"))


@router.get("/report")
def report(request: Request, request_id: str, me: Viewer) -> Response:
    """Show the report."""
    return document(queries.report(workspace_of(request), request_id))


@router.get("/report.html")
def report_file(request: Request, request_id: str, me: Viewer) -> Response:
    """Download the report."""
    return document(queries.report(workspace_of(request), request_id), f"{request_id}.html")


@router.get("/audits/{name}")
def audit(request: Request, request_id: str, name: str, me: Viewer) -> Response:
    """Show an audit with its meaning, plots and figures; with the suffix ``.html``, its standalone page."""
    workspace = workspace_of(request)
    with workspace.session() as session:
        get_request(session, request_id)
    standalone = name.endswith(".html")
    found = queries.audit(workspace, name.removesuffix(".html"))
    if found["request"] != request_id:
        raise NotFound("There is no such audit.", "", "See the request for its audits.")
    if standalone:
        return document(queries.audit_page(workspace, name.removesuffix(".html")))
    plots = {key: Markup(svg) for key, svg in load_plots(workspace, name).items() if svg}
    figures = [{**f, "label": label_of(f)} for f in found["figures"].values()]
    return page(
        request,
        "audit",
        active="requests",
        request_id=request_id,
        name=name,
        a=found,
        plain=explain_verdict(found),
        plots=plots,
        figures=figures,
        words=WORDS,
        margin=MARGIN,
    )
