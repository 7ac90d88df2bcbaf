# SPDX-License-Identifier: Apache-2.0
"""Routes for evidence: certificates, reports, verification, audits, the transparency log, the public key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from expunge.web import queries
from expunge.web.api.job_schemas import JobShown
from expunge.web.api.schemas import (
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
from expunge.web.auth.access import Identity, allowed, workspace_of
from expunge.web.jobs import job_store

router = APIRouter()
View = Annotated[Identity, Depends(allowed("desk.view"))]
AUDIT = r"^r-[0-9a-f]{16}-[A-Za-z0-9._-]+$"
AuditName = Annotated[str, Path(max_length=300, pattern=AUDIT, examples=["r-5f2b8c0d9a7e6143-m-2-quick"])]
TARGET = rf"{REQUEST}|^[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}@[1-9][0-9]{{0,8}}$"
# Policy for self-contained documents: inline styles only, no scripts, nothing loaded.
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
    """Return the body unchanged. Signed content must not be parsed and serialised again."""
    return await request.body()


class CheckShown(BaseModel):
    """One check of a verification."""

    name: str
    ok: bool | None = Field(description="Null if it could not be checked here.")
    detail: str


class Verified(BaseModel):
    """The result of a verification."""

    valid: bool = Field(description="True if no check failed and at least one passed.")
    checks: list[CheckShown]
    request: str | None = Field(description="The request of the certificate, if this workspace knows it.")


class AskVerify(Taken):
    """A verification of a request or model of the workspace."""

    target: Annotated[str, Field(pattern=TARGET)] = Field(
        description="A request's id, or MODEL@V.", examples=["r-5f2b8c0d9a7e6143", "m@2"]
    )
    replay: bool = Field(default=True, description="Train again on the retained data and compare digests.")


class AskAudit(Taken):
    """An audit of a model for a request."""

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
    page: bool = Field(description="Whether the audit has an HTML page.")


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
    """The newest signed tree head of the log."""

    size: int
    root: str
    time: str
    key: str


class Proof(BaseModel):
    """An inclusion proof of an entry of the log (RFC 9162, 2.1.3)."""

    entry: LogEntry
    line: str = Field(description="The hashed line.")
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
    content = queries.certificate(workspace_of(request), request_id)
    headers = {"Content-Disposition": f'attachment; filename="{request_id}.json"'}
    return Response(content, 200, headers, "application/json")


@router.get(
    "/requests/{request_id}/report",
    response_class=Response,
    responses={**READS, **HTML},
    tags=["evidence"],
)
def show_report(request: Request, request_id: RequestId, _: View) -> Response:
    """Show the report of a request as HTML. It holds no images and no names."""
    return Response(queries.report(workspace_of(request), request_id), 200, DOCUMENT, "text/html")


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
    """Verify a certificate: send its file unchanged. Nothing is trained."""
    return queries.verify(workspace_of(request), content)


@router.post("/verifications", response_model=JobShown, status_code=202, responses=CHANGES, tags=["evidence"])
def verify_again(
    request: Request,
    body: AskVerify,
    user: Annotated[Identity, Depends(allowed("certificates.replay"))],
    key: IdempotencyKey = None,
) -> Any:
    """Start a job that verifies a request or a model, by default with a replay of the training."""
    workspace = workspace_of(request)
    queries.check_target(workspace, body.target)
    return request.app.state.supervisor.submit(job_store.VERIFY, body.model_dump(), user.name, key)


@router.get("/audits", response_model=list[AuditShown], responses=READS, tags=["audits"])
def list_audits(
    request: Request,
    _: View,
    of: Annotated[str | None, Query(alias="request", pattern=REQUEST)] = None,
) -> Any:
    """List the audits, newest first; optionally only those of one request."""
    return queries.audits(workspace_of(request), of)


@router.post("/audits", response_model=JobShown, status_code=202, responses=CHANGES, tags=["audits"])
def start_audit(
    request: Request,
    body: AskAudit,
    user: Annotated[Identity, Depends(allowed("audits.run"))],
    key: IdempotencyKey = None,
) -> Any:
    """Start a job that audits a model for a request. The request must not be closed yet."""
    workspace = workspace_of(request)
    queries.check_target(workspace, body.request)
    queries.check_target(workspace, body.model)
    return request.app.state.supervisor.submit(job_store.AUDIT, body.model_dump(), user.name, key)


@router.get("/audits/{name}", response_model=AuditWhole, responses=READS, tags=["audits"])
def show_audit(request: Request, name: AuditName, _: View) -> Any:
    """Show an audit with its figures."""
    return queries.audit(workspace_of(request), name)


@router.get("/audits/{name}/page", response_class=Response, responses={**READS, **HTML}, tags=["audits"])
def show_audit_page(request: Request, name: AuditName, _: View) -> Response:
    """Show the page of an audit, with its plots."""
    return Response(queries.audit_page(workspace_of(request), name), 200, DOCUMENT, "text/html")


@router.get("/log", response_model=Paged[LogEntry], responses={**READS, **CHANGES}, tags=["log"])
def list_log(
    request: Request,
    _: View,
    of: Annotated[str | None, Query(alias="request", pattern=REQUEST)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Any:
    """List the entries of the transparency log, newest first; optionally only those of one request."""
    return paged(queries.log_page(workspace_of(request), request=of, limit=limit, cursor=cursor))


@router.get("/log/{index}/proof", response_model=Proof, responses={**READS, **CHANGES}, tags=["log"])
def prove(request: Request, index: Annotated[int, Path(ge=0, le=10**9)], _: View) -> Any:
    """Return the proof that an entry is included in the log."""
    return queries.proof(workspace_of(request), index)


@router.get(
    "/key",
    response_class=Response,
    responses={**READS, 200: {"description": "PEM.", "content": {"application/x-pem-file": {}}}},
    tags=["evidence"],
)
def public_key(request: Request, _: View) -> Response:
    """Download the public key that verifies the workspace's certificates. Compare its fingerprint first."""
    return Response(queries.public_key(workspace_of(request)), 200, None, "application/x-pem-file")
