# SPDX-License-Identifier: Apache-2.0
"""Copy every event of the catalog to the transparency log, in order and exactly once, despite crashes.

An event is stored in the same transaction as the change that it records (an outbox; ``told`` is false). Then
it is appended to the log, and the row is marked as logged. If a process stops in between, the next one
appends the rows that are not marked. The log skips an event whose id it has, so that none is appended twice.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import select, update

from expunge.catalog.bulk import in_chunks
from expunge.catalog.tables import RequestEventRow
from expunge.errors import StorageError
from expunge.evidence import anchor, log, log_writer
from expunge.evidence.key_store import signing_key
from expunge.workspace import Workspace, on_events


def check_ready(workspace: Workspace) -> None:
    """Raise an error now if events could not be logged later; afterwards only the disk can fail.

    Raises:
        InputError: If the log is damaged, or older than the anchor.
        StorageError: If the signing key cannot be read.
    """
    log.sound_lines(workspace, signing_key(workspace).public)
    anchor.check(workspace)


def flush(workspace: Workspace) -> int:
    """Append all events that are not logged yet; return their number.

    An entry holds the request's random id, its new state (or that something was noted) and the time. It holds
    no actor, no reason and no detail.

    Raises:
        StorageError: If the log cannot be written. No event is lost; a later call appends it.
    """
    with workspace.session() as session:
        query = select(RequestEventRow).where(~RequestEventRow.told).order_by(RequestEventRow.id)
        rows = [(row.id, _event(row)) for row in session.scalars(query)]
    if not rows:
        return 0
    try:
        log_writer.append(workspace, [event for _, event in rows])
    except StorageError as error:
        raise StorageError(
            "The change is recorded in the catalog, but not yet in the log.",
            f"{error.what} {error.why}",
            "Fix the cause, and do not repeat the command: the next change of a request updates the log.",
        ) from error
    with workspace.session(write=True) as session:
        for ids in in_chunks([row_id for row_id, _ in rows]):
            session.execute(update(RequestEventRow).where(RequestEventRow.id.in_(ids)).values(told=True))
    return len(rows)


def _event(row: RequestEventRow) -> log.Event:
    kind = f"request-{row.target}" if row.source != row.target else "request-noted"
    event_id = hashlib.sha256(f"{row.request_id} {row.id}".encode()).hexdigest()
    return log.Event(event_id, kind, row.request_id, time=row.at.isoformat(timespec="seconds"))


on_events(flush)
