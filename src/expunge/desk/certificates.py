# SPDX-License-Identifier: Apache-2.0
"""Certificates: the file itself, the report made from it, and the verification of one that is brought."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog.models import find_model, get_request
from expunge.errors import InputError, NotFound
from expunge.evidence import certificate as issued
from expunge.evidence import keys, log
from expunge.evidence import report as reports
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace

BROUGHT = "certificate.json"


def certificate(workspace: Workspace, request_id: str) -> bytes:
    """Return the bytes of a request's certificate.

    Raises:
        NotFound: If there is no such request, or nothing was certified yet.
    """
    with workspace.session() as session:
        get_request(session, request_id)
    path = issued.path_of(workspace, request_id)
    if not path.is_file():
        raise NotFound(
            f"The request {request_id} has no certificate.", "", "One is made when it is executed."
        )
    return path.read_bytes()


def report(workspace: Workspace, request_id: str) -> str:
    """Return the report of a request for people, HTML without script or pictures.

    Raises:
        NotFound: If there is no such request, or nothing was certified yet.
    """
    certificate(workspace, request_id)
    return reports.render(issued.predicate_of(issued.path_of(workspace, request_id)))


def verify(workspace: Workspace, content: bytes) -> dict[str, Any]:
    """Verify a certificate that somebody brings; its file's name says nothing and is not used.

    Returns:
        ``valid``, ``checks``, and ``request``: the one that it is about, if that is known here.

    Raises:
        InputError: If it is no certificate at all.
    """
    from expunge.evidence import verify as evidence

    with tempfile.TemporaryDirectory(prefix="verify-", dir=workspace.tmp) as folder:
        file = Path(folder) / BROUGHT
        file.write_bytes(content)
        try:
            found = evidence.verify(workspace, str(file), evidence.Means(apart=True), Progress(quiet=True))
            about = _about(file)
        except InputError as error:
            named = [t.replace(str(file), "The file") for t in (error.what, error.why, error.next_step)]
            raise InputError(*named) from error
    request_id = about if isinstance(about, str) and _is_known(workspace, about) else None
    return {"valid": found["valid"], "checks": found["checks"], "request": request_id}


def check_target(workspace: Workspace, target: str) -> None:
    """Raise an error if a target (a request's id, or ``MODEL[@V]``) is not known here.

    Raises:
        NotFound: If so.
    """
    with workspace.session() as session:
        if log.REQUEST.fullmatch(target):
            get_request(session, target)
        else:
            find_model(session, target)


def public_key(workspace: Workspace) -> bytes:
    """Return the public key that verifies the workspace's certificates, as PEM.

    Raises:
        NotFound: If it has none yet.
    """
    found = keys.public_key(workspace)
    if found is None:
        raise NotFound("The workspace has no key yet.", "", "One is made by: expunge init")
    return found.pem


def _about(file: Path) -> Any:
    """The request that a certificate names; None if it is none, as the checks say."""
    try:
        return issued.predicate_of(file).get("request")
    except InputError:
        return None


def _is_known(workspace: Workspace, request_id: str) -> bool:
    try:
        with workspace.session() as session:
            get_request(session, request_id)
    except InputError:
        return False
    return True
