# SPDX-License-Identifier: Apache-2.0
"""Evidence: certificates and reports, verification, audits, the transparency log and the key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from expunge import desk
from expunge.web import jobs
from expunge.web.api.job_shapes import JobShown
from expunge.web.api.shapes import (
    CHANGES,
    READS,
    REQUEST,
    Cursor,
    IdempotencyKey,
    Limit,
    Paged,
    Ref,
    RequestId,
    RequestRef,
    Taken,
    paged,
)
from expunge.web.security import Identity, allowed, workspace_of

router = APIRouter()
View = Annotated[Identity, Depends(allowed("desk.view"))]
AUDIT = r"^r-[0-9a-f]{16}-[A-Za-z0-9._-]+$"
AuditName = Annotated[str, Path(max_length=300, pattern=AUDIT, examples=["r-5f2b8c0d9a7e6143-m-2-quick"])]
TARGET = rf"{REQUEST}|^[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}@[1-9][0-9]{{0,8}}$"
# A finished document: it brings its own styles, and may run and load nothing.
DOCUMENT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox;"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
HTML: dict[int | str, dict[str, Any]] = {
    200: {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}
}


ENVELOPE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"application/json": {"schema": {"type": "object"}}}}
}
OBJECT = {"type": "object", "description": "The content of the certificate's file, byte for byte."}


async def raw(request: Request) -> bytes:
    """The body as it came: what is signed must not be read and written anew."""
    return await request.body()


class CheckShown(BaseModel):
    """One check of a verification."""

    name: str
    ok: bool | None = Field(description="Null: it could not be checked here.")
    detail: str


class Verified(BaseModel):
    """What a verification found."""

    valid: bool = Field(description="No check failed, and at least one held.")
    checks: list[CheckShown]
    request: str | None = Field(description="The request that it is about, if that is known here.")


class AskVerify(Taken):
    """What to verify in the workspace, and whether to train again for it."""

    target: Annotated[str, Field(pattern=TARGET)] = Field(
        description="A request's id, or MODEL@V.", examples=["r-5f2b8c0d9a7e6143", "m@2"]
    )
    replay: bool = Field(default=True, description="Train again from what is retained, and compare digests.")


class AskAudit(Taken):
    """Which model to audit for which request."""

    model: Ref
    request: RequestRef
    level: Literal["quick", "standard", "full"] = "quick"


class AuditShown(BaseModel):
    """An audit."""

    audit: str = Field(description="Its name.")
    model: str | None
    original: str | None
    request: str | None
    level: str | None
    verdict: str | None = Field(description="pass, fail or no-power")
    failure: str | None
    reasons: list[str] | None
    n: dict[str, Any] | None
    references: dict[str, Any] | None
    page: bool = Field(description="Whether there is a page of it for people.")


class AuditWhole(AuditShown):
    """An audit with its figures."""

    figures: dict[str, Any]
    utility: dict[str, Any] | None


class LogEntry(BaseModel):
    """An entry of the transparency log."""

    index: int
    kind: str
    request: str | None
    commitment: str | None
    time: str | None
    event: str


class TreeHead(BaseModel):
    """What was signed of the log last."""

    size: int
    root: str
    time: str
    key: str


class Proof(BaseModel):
    """That an entry is in the log's tree (RFC 9162, 2.1.3)."""

    entry: LogEntry
    line: str = Field(description="What is hashed.")
    leaf: str
    path: list[str]
    size: int
    root: str
    holds: bool
    head: TreeHead | None


@router.get(
    "/requests/{request_id}/certificate",
    response_class=Response,
    responses={**READS, **ENVELOPE},
    tags=["evidence"],
)
def download_certificate(request: Request, request_id: RequestId, _: View) -> Response:
    """Download a request's certificate: a DSSE envelope around an in-toto statement."""
    content = desk.certificate(workspace_of(request), request_id)
    headers = {"Content-Disposition": f'attachment; filename="{request_id}.json"'}
    return Response(content, 200, headers, "application/json")


@router.get(
    "/requests/{request_id}/report",
    response_class=Response,
    responses={**READS, **HTML},
    tags=["evidence"],
)
def show_report(request: Request, request_id: RequestId, _: View) -> Response:
    """Show the report of a request, for people; it holds no picture and no name."""
    return Response(desk.report(workspace_of(request), request_id), 200, DOCUMENT, "text/html")


@router.post(
    "/certificates/verify",
    response_model=Verified,
    responses=CHANGES,
    tags=["evidence"],
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": OBJECT}}}},
)
def verify_certificate(
    request: Request,
    _: Annotated[Identity, Depends(allowed("certificates.verify"))],
    content: Annotated[bytes, Depends(raw)],
) -> Any:
    """Verify a certificate that you have: send its file as it is. Nothing is trained for it."""
    return desk.verify(workspace_of(request), content)


@router.post("/verifications", response_model=JobShown, status_code=202, responses=CHANGES, tags=["evidence"])
def verify_again(
    request: Request,
    body: AskVerify,
    who: Annotated[Identity, Depends(allowed("certificates.replay"))],
    key: IdempotencyKey = None,
) -> Any:
    """Verify a request or a model by training again; a worker does it."""
    workspace = workspace_of(request)
    desk.check_target(workspace, body.target)
    return request.app.state.supervisor.submit(jobs.VERIFY, body.model_dump(), who.name, key)


@router.get("/audits", response_model=list[AuditShown], responses=READS, tags=["audits"])
def list_audits(
    request: Request,
    _: View,
    of: Annotated[str | None, Query(alias="request", pattern=REQUEST)] = None,
) -> Any:
    """List the audits that were made (for a request), the newest first."""
    return desk.audits(workspace_of(request), of)


@router.post("/audits", response_model=JobShown, status_code=202, responses=CHANGES, tags=["audits"])
def start_audit(
    request: Request,
    body: AskAudit,
    who: Annotated[Identity, Depends(allowed("audits.run"))],
    key: IdempotencyKey = None,
) -> Any:
    """Audit a model for a request that is not closed yet; a worker does it."""
    workspace = workspace_of(request)
    desk.check_target(workspace, body.request)
    desk.check_target(workspace, body.model)
    return request.app.state.supervisor.submit(jobs.AUDIT, body.model_dump(), who.name, key)


@router.get("/audits/{name}", response_model=AuditWhole, responses=READS, tags=["audits"])
def show_audit(request: Request, name: AuditName, _: View) -> Any:
    """Show an audit with its figures."""
    return desk.audit(workspace_of(request), name)


@router.get("/audits/{name}/page", response_class=Response, responses={**READS, **HTML}, tags=["audits"])
def show_audit_page(request: Request, name: AuditName, _: View) -> Response:
    """Show the page of an audit, with its plots."""
    return Response(desk.audit_page(workspace_of(request), name), 200, DOCUMENT, "text/html")


@router.get("/log", response_model=Paged[LogEntry], responses={**READS, **CHANGES}, tags=["log"])
def list_log(
    request: Request,
    _: View,
    of: Annotated[str | None, Query(alias="request", pattern=REQUEST)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Any:
    """List the entries of the transparency log (of a request), the newest first."""
    return paged(desk.log_page(workspace_of(request), request=of, limit=limit, cursor=cursor))


@router.get("/log/{index}/proof", response_model=Proof, responses={**READS, **CHANGES}, tags=["log"])
def prove(request: Request, index: Annotated[int, Path(ge=0, le=10**9)], _: View) -> Any:
    """Prove that an entry is in the log's tree."""
    return desk.proof(workspace_of(request), index)


@router.get(
    "/key",
    response_class=Response,
    responses={**READS, 200: {"description": "PEM.", "content": {"application/x-pem-file": {}}}},
    tags=["evidence"],
)
def public_key(request: Request, _: View) -> Response:
    """Download the public key that verifies the workspace's certificates; trust it by its fingerprint."""
    return Response(desk.public_key(workspace_of(request)), 200, None, "application/x-pem-file")
