# SPDX-License-Identifier: Apache-2.0
"""The transparency log with its proofs, and the verification of a certificate that somebody brings."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from expunge import desk
from expunge.errors import ExpungeError, InputError
from expunge.evidence import keys, proofs
from expunge.evidence.log import HEAD
from expunge.web.pages.standalone import attached
from expunge.web.pages.view import page, said
from expunge.web.security import Identity, allowed, workspace_of

router = APIRouter()
PER_PAGE = 50
Viewer = Annotated[Identity, Depends(allowed("desk.view"))]
Verifier = Annotated[Identity, Depends(allowed("certificates.verify"))]


@router.get("/log")
def log(request: Request, me: Viewer, cursor: str = "") -> Response:
    """The log, the newest entry first."""
    found = desk.log_page(workspace_of(request), limit=PER_PAGE, cursor=cursor or None)
    following = "/log?" + urlencode({"cursor": found.next}) if found.next else None
    return page(
        request, "log", active="log", entries=found.items, total=found.total, next=following, cursor=cursor
    )


@router.get("/log/head")
def head(request: Request, me: Viewer) -> Response:
    """What was signed of the log, and what checking it finds."""
    return page(request, "log_head", active="log", log=proofs.overview(workspace_of(request)))


@router.post("/log/consistency")
async def consistency(request: Request, me: Viewer) -> Response:
    """Whether the log continues the one that an earlier tree head signed."""
    content = await _file(request)

    def answer() -> Response:
        workspace = workspace_of(request)
        if content is None:
            return page(
                request, "consistency", 400, active="log", checks=None, problem=_no_file("the tree head")
            )
        return page(request, "consistency", active="log", checks=proofs.consistency(workspace, content))

    return await run_in_threadpool(answer)


@router.get("/log/tree-head.json")
def tree_head(request: Request, me: Viewer) -> Response:
    """The signed tree head, for whoever wants to keep it."""
    path = workspace_of(request).root / "log" / HEAD
    if not path.is_file():
        raise InputError("The log has no tree head yet.", "It is signed with the first entry.", "")
    return Response(path.read_bytes(), media_type="application/json", headers=attached(HEAD))


@router.get("/log/public-key.pem")
def public_key(request: Request, me: Viewer) -> Response:
    """The public key, by which others verify."""
    public = keys.signing_key(workspace_of(request)).public
    return Response(
        public.pem, media_type="application/x-pem-file", headers=attached("expunge-public-key.pem")
    )


@router.get("/log/{index}")
def entry(request: Request, index: int, me: Viewer) -> Response:
    """An entry, with the proof that it is in the log."""
    return page(request, "entry", active="log", proof=desk.proof(workspace_of(request), index))


@router.get("/verify")
def form(request: Request, me: Verifier) -> Response:
    """The form to verify a certificate."""
    return page(request, "verify", active="verify", found=None)


@router.post("/verify")
async def verify(request: Request, me: Verifier) -> Response:
    """Verify a certificate: a file that somebody brings, or a request's own."""
    content = await _file(request)
    named = (await request.form()).get("request")

    def answer() -> Response:
        workspace = workspace_of(request)
        try:
            sent = content
            if sent is None and isinstance(named, str) and named:
                sent = desk.certificate(workspace, named)
            if sent is None:
                return page(
                    request, "verify", 400, active="verify", found=None, problem=_no_file("a certificate")
                )
            found = desk.verify(workspace, sent)
        except ExpungeError as error:
            status, problem = said(workspace, error)
            return page(request, "verify", status, active="verify", found=None, problem=problem)
        return page(request, "verify", active="verify", found=found)

    return await run_in_threadpool(answer)


async def _file(request: Request) -> bytes | None:
    """The file of the form; its name is not looked at."""
    sent = (await request.form()).get("file")
    if not isinstance(sent, UploadFile):
        return None
    return await sent.read() or None


def _no_file(what: str) -> dict[str, str]:
    return {"what": "No file came.", "why": "", "next": f"Choose the file of {what}."}
