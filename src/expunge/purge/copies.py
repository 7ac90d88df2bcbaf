# SPDX-License-Identifier: Apache-2.0
"""Reports copies of erased data for certificates: those that purges deleted, and those known to exist.

Reports have kinds, counts and digests, but no paths, which may contain names of people. A place outside this
machine is identified by a keyed digest: only the owner of the key can tell which place it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from expunge.catalog import ancestry, derivatives, model_store
from expunge.catalog.tables import RequestRow
from expunge.evidence import certificates, journal, log, log_writer
from expunge.purge.external import checklist

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

SCHEME = re.compile(r"(s3|gs|az|abfss?|oci|docker|https?|sftp|file)://")


class CopyInventory(NamedTuple):
    """Copies of a request's data, as listed in its certificate.

    Attributes:
        purged: Deleted copies, by purge: ``{plan, at, kinds: {kind: {files, bytes}}}``.
        deployments: Known copies: exports of models that were trained on the data (``kind`` "export",
            ``model``, ``format``, ``sha256`` of each file), trees of samples (``kind`` "data-export",
            ``dataset``), and places listed by the user (``kind`` "external", ``place``, ``scheme``);
            ``confirmed``: whether the copy is known or confirmed to be deleted.
    """

    purged: list[dict[str, Any]]
    deployments: list[dict[str, Any]]


def copies(workspace: Workspace, session: Session, request_ids: Iterable[str]) -> dict[str, CopyInventory]:
    """Return the copy inventory of each request by id."""
    seen, purges = ancestry.requests_held(session), derivatives.purges(session)
    versions = {p.id: p for p in model_store.model_versions(session)}
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
        request_id: CopyInventory(
            [
                {"plan": purge["plan"], "at": purge["created"], "kinds": purge["requests"][request_id]}
                for purge in purges
                if request_id in purge["requests"]
            ],
            [entry for requests, entry in (*exports, *trees) if request_id in requests] + places,
        )
        for request_id in request_ids
    }


def amend_certificates(workspace: Workspace) -> int:
    """Amend every certificate whose copy inventory is outdated; return the number of changed certificates."""
    journal.flush(workspace)
    with workspace.session() as session:
        certified = session.scalars(select(RequestRow.id).where(RequestRow.result.is_not(None))).all()
        inventories = copies(workspace, session, certified)
    amended = [
        certificates.amend(workspace, request_id, *inventory) for request_id, inventory in inventories.items()
    ]
    events = [log.Event(a.digest, "certified", a.request, a.digest) for a in amended if a is not None]
    if events:
        log_writer.append(workspace, events)
    return sum(a.changed for a in amended if a is not None)
