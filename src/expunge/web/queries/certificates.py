# SPDX-License-Identifier: Apache-2.0
"""Queries for certificates: the file, its report, and the verification of an uploaded certificate."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog.model_store import find_model, get_request
from expunge.errors import InputError, NotFound
from expunge.evidence import certificates, key_store, log, report_page
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace

UPLOADED = "certificate.json"


def certificate(workspace: Workspace, request_id: str) -> bytes:
    """Return the bytes of a request's certificate.

    Raises:
        NotFound: If the request or its certificate does not exist.
    """
    with workspace.session() as session:
        get_request(session, request_id)
    path = certificates.path_of(workspace, request_id)
    if not path.is_file():
        raise NotFound(
            f"The request {request_id} has no certificate.", "", "It is made when the request is executed."
        )
    return path.read_bytes()


def report(workspace: Workspace, request_id: str) -> str:
    """Return the HTML report of a request, which has no scripts and no images.

    Raises:
        NotFound: If the request or its certificate does not exist.
    """
    certificate(workspace, request_id)
    return report_page.render(certificates.predicate_of(certificates.path_of(workspace, request_id)))


def verify(workspace: Workspace, content: bytes) -> dict[str, Any]:
    """Verify an uploaded certificate. The name of its file is not used.

    Returns:
        ``valid``, ``checks``, and ``request``: the certificate's request, if this workspace knows it.

    Raises:
        InputError: If the content is not a certificate.
    """
    from expunge.evidence import verifier

    with tempfile.TemporaryDirectory(prefix="verify-", dir=workspace.tmp) as folder:
        file = Path(folder) / UPLOADED
        file.write_bytes(content)
        try:
            found = verifier.verify(
                workspace, str(file), verifier.VerifyOptions(apart=True), Progress(quiet=True)
            )
            named = _request_of(file)
        except InputError as error:
            texts = [t.replace(str(file), "The file") for t in (error.what, error.why, error.next_step)]
            raise InputError(*texts) from error
    request_id = named if isinstance(named, str) and _is_known(workspace, named) else None
    return {"valid": found["valid"], "checks": found["checks"], "request": request_id}


def check_target(workspace: Workspace, target: str) -> None:
    """Check that a target of a verification or audit exists.

    Args:
        workspace: The workspace.
        target: A request's id or ``MODEL[@V]``.

    Raises:
        NotFound: If it does not exist.
    """
    with workspace.session() as session:
        if log.REQUEST.fullmatch(target):
            get_request(session, target)
        else:
            find_model(session, target)


def public_key(workspace: Workspace) -> bytes:
    """Return the public key that verifies the workspace's certificates, as PEM.

    Raises:
        NotFound: If the workspace has no key yet.
    """
    key = key_store.public_key(workspace)
    if key is None:
        raise NotFound("The workspace has no key yet.", "", "Make one with: expunge init")
    return key.pem


def _request_of(file: Path) -> Any:
    """Return the request id in a certificate, or None if the file is not a certificate."""
    try:
        return certificates.predicate_of(file).get("request")
    except InputError:
        return None


def _is_known(workspace: Workspace, request_id: str) -> bool:
    try:
        with workspace.session() as session:
            get_request(session, request_id)
    except InputError:
        return False
    return True
