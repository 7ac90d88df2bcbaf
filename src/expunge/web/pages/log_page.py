# SPDX-License-Identifier: Apache-2.0
"""Pages for the transparency log with its proofs, and for the verification of certificates."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from expunge.errors import ExpungeError, InputError
from expunge.evidence import key_store, log_overview
from expunge.evidence.log import HEAD
from expunge.web import queries
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.pages.standalone import attached
from expunge.web.pages.view import page, problem_context

router = APIRouter()
PER_PAGE = 50
Viewer = Annotated[Identity, Depends(allowed("desk.view"))]
Verifier = Annotated[Identity, Depends(allowed("certificates.verify"))]


@router.get("/log")
def log(request: Request, me: Viewer, cursor: str = "") -> Response:
    """Show the log, newest entry first."""
    found = queries.log_page(workspace_of(request), limit=PER_PAGE, cursor=cursor or None)
    following = "/log?" + urlencode({"cursor": found.next}) if found.next else None
    return page(
        request, "log", active="log", entries=found.items, total=found.total, next=following, cursor=cursor
    )


@router.get("/log/head")
def head(request: Request, me: Viewer) -> Response:
    """Show the signed tree head of the log and the results of checking it."""
    return page(request, "log_head", active="log", log=log_overview.overview(workspace_of(request)))


@router.post("/log/consistency")
async def consistency(request: Request, me: Viewer) -> Response:
    """Check that the log is a continuation of the log of an earlier tree head."""
    content = await _file(request)

    def answer() -> Response:
        workspace = workspace_of(request)
        if content is None:
            return page(
                request, "consistency", 400, active="log", checks=None, problem=_no_file("the tree head")
            )
        return page(request, "consistency", active="log", checks=log_overview.consistency(workspace, content))

    return await run_in_threadpool(answer)


@router.get("/log/tree-head.json")
def tree_head(request: Request, me: Viewer) -> Response:
    """Download the signed tree head."""
    path = workspace_of(request).root / "log" / HEAD
    if not path.is_file():
        raise InputError("The log has no tree head yet.", "It is signed with the first entry.", "")
    return Response(path.read_bytes(), media_type="application/json", headers=attached(HEAD))


@router.get("/log/public-key.pem")
def public_key(request: Request, me: Viewer) -> Response:
    """Download the public key."""
    public = key_store.signing_key(workspace_of(request)).public
    return Response(
        public.pem, media_type="application/x-pem-file", headers=attached("expunge-public-key.pem")
    )


@router.get("/log/{index}")
def entry(request: Request, index: int, me: Viewer) -> Response:
    """Show an entry of the log with its inclusion proof."""
    return page(request, "entry", active="log", proof=queries.proof(workspace_of(request), index))


@router.get("/verify")
def form(request: Request, me: Verifier) -> Response:
    """Show the form for verifying a certificate."""
    return page(request, "verify", active="verify", found=None)


@router.post("/verify")
async def verify(request: Request, me: Verifier) -> Response:
    """Verify a certificate: an uploaded file, or that of a request."""
    content = await _file(request)
    request_id = (await request.form()).get("request")

    def answer() -> Response:
        workspace = workspace_of(request)
        try:
            envelope = content
            if envelope is None and isinstance(request_id, str) and request_id:
                envelope = queries.certificate(workspace, request_id)
            if envelope is None:
                return page(
                    request, "verify", 400, active="verify", found=None, problem=_no_file("a certificate")
                )
            found = queries.verify(workspace, envelope)
        except ExpungeError as error:
            status, problem = problem_context(workspace, error)
            return page(request, "verify", status, active="verify", found=None, problem=problem)
        return page(request, "verify", active="verify", found=found)

    return await run_in_threadpool(answer)


async def _file(request: Request) -> bytes | None:
    """Return the content of the form's file, or None if there is none. Its name is not used."""
    upload = (await request.form()).get("file")
    if not isinstance(upload, UploadFile):
        return None
    return await upload.read() or None


def _no_file(what: str) -> dict[str, str]:
    return {"what": "No file was sent.", "why": "", "next": f"Choose the file of {what}."}
