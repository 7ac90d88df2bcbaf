# SPDX-License-Identifier: Apache-2.0
"""What a certificate says of copies: those that purges deleted, and those that are known to be elsewhere.

Kinds, counts and digests; no path and no place, since these may name people. A place outside of this machine
is told by a keyed digest: its owner can say which line of the list is meant, nobody else can test a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from expunge.catalog import ancestry, derivatives
from expunge.catalog import models as catalog
from expunge.catalog.tables import RequestRow
from expunge.evidence import certificate, journal, log
from expunge.purge.external import checklist

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

SCHEME = re.compile(r"(s3|gs|az|abfss?|oci|docker|https?|sftp|file)://")


class Said(NamedTuple):
    """What a request's certificate says of copies.

    Attributes:
        purged: What purges deleted of the request's data: ``{plan, at, kinds: {kind: {files, bytes}}}``.
        deployments: Where data of the request, or models that saw it, are known to be: exports of such models
            (``kind`` "export", ``model``, ``format``, ``sha256`` of each file), trees of samples (``kind``
            "data-export", ``dataset``), and the places that the user listed (``kind`` "external", ``place``,
            ``scheme``); ``confirmed``: whether it is known, or somebody has said, that it is gone.
    """

    purged: list[dict[str, Any]]
    deployments: list[dict[str, Any]]


def copies(workspace: Workspace, session: Session, request_ids: Iterable[str]) -> dict[str, Said]:
    """Return what is known of the copies of each request."""
    seen, purges = ancestry.requests_held(session), derivatives.purges(session)
    versions = {p.id: p for p in catalog.history(session)}
    exports = [
        (
            seen.get(export.model_version_id, ()),
            {
                "kind": "export",
                "model": versions[export.model_version_id].label,
                "format": export.format,
                "sha256": sorted(derivatives.export_digests(session, export.id)),
                "confirmed": export.removed,
            },
        )
        for export in derivatives.model_exports(session, versions, removed=True)
    ]
    trees = [
        (
            tree.requests,
            {"kind": "data-export", "dataset": f"{tree.dataset}@{tree.version}", "confirmed": False},
        )
        for tree in derivatives.outdated_data_exports(session)
    ]
    places = [
        {
            "kind": "external",
            "place": listed["id"],
            "scheme": scheme[1] if (scheme := SCHEME.match(listed["place"])) else "other",
            "confirmed": listed["confirmed"],
        }
        for listed in checklist(workspace)
    ]
    return {
        request_id: Said(
            [
                {"plan": purge["plan"], "at": purge["created"], "kinds": purge["requests"][request_id]}
                for purge in purges
                if request_id in purge["requests"]
            ],
            [entry for requests, entry in (*exports, *trees) if request_id in requests] + places,
        )
        for request_id in request_ids
    }


def bring_up_to_date(workspace: Workspace) -> int:
    """Sign anew every certificate that says less of copies than is known now; returns how many."""
    journal.flush(workspace)
    with workspace.session() as session:
        certified = session.scalars(select(RequestRow.id).where(RequestRow.result.is_not(None))).all()
        known = copies(workspace, session, certified)
    amended = [certificate.amend(workspace, request_id, *said) for request_id, said in known.items()]
    events = [log.Event(a.digest, "certified", a.request, a.digest) for a in amended if a is not None]
    if events:
        log.append(workspace, events)
    return sum(a.changed for a in amended if a is not None)
