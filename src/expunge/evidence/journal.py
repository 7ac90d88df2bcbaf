# SPDX-License-Identifier: Apache-2.0
"""Tells the transparency log of what happened to a request: every event of the catalog, once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import select

from expunge.catalog.tables import RequestEventRow
from expunge.evidence import log

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def tell(workspace: Workspace, request_id: str) -> None:
    """Append the events of a request that the log does not know yet.

    An entry holds the request's random id, the state it came to (or what was noted about it) and when: no
    actor, no reason, no detail. Its id is a digest of request and event, so that nothing is told twice.
    """
    with workspace.session() as session:
        query = select(RequestEventRow).where(RequestEventRow.request_id == request_id)
        events = [
            log.Event(
                hashlib.sha256(f"{request_id} {row.id}".encode()).hexdigest(),
                f"request-{row.target}" if row.source != row.target else "request-noted",
                request_id,
                time=row.at.isoformat(timespec="seconds"),
            )
            for row in session.scalars(query.order_by(RequestEventRow.id))
        ]
    log.append(workspace, events)
