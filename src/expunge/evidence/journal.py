# SPDX-License-Identifier: Apache-2.0
"""Tells the transparency log of every event of the catalog: in their order, each once, whoever dies when.

An event becomes durable with the change that it records (an outbox: ``told`` is false). Only then is the log
told, and the row marked. A process that dies in between leaves rows that the next one tells; the log knows an
event by its id, so one that was appended and not marked is not appended again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from expunge.catalog.selection import in_chunks
from expunge.catalog.tables import RequestEventRow
from expunge.errors import StorageError
from expunge.evidence import anchor, log
from expunge.evidence.keys import signing_key

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def check_ready(workspace: Workspace) -> None:
    """Raise now what would keep the log from being told afterwards; only the disk can then refuse.

    Raises:
        InputError: If the log is damaged, or older than what is known of it.
        StorageError: If the signing key cannot be read.
    """
    log.sound_lines(workspace, signing_key(workspace).public)
    anchor.check(workspace)


def flush(workspace: Workspace) -> int:
    """Append all events that the log does not know yet; returns how many were to be told.

    An entry holds the request's random id, the state it came to (or that something was noted) and when: no
    actor, no reason, no detail.

    Raises:
        StorageError: If the log cannot be written; nothing is lost, a later call makes up for it.
    """
    with workspace.session() as session:
        query = select(RequestEventRow).where(~RequestEventRow.told).order_by(RequestEventRow.id)
        rows = [(row.id, _event(row)) for row in session.scalars(query)]
    if not rows:
        return 0
    try:
        log.append(workspace, [event for _, event in rows])
    except StorageError as error:
        raise StorageError(
            "What was done is recorded, but the log could not be told of it yet.",
            f"{error.what} {error.why}",
            "See to it. Do not repeat the command: the next one that changes a request tells the log.",
        ) from error
    with workspace.session(write=True) as session:
        for ids in in_chunks([row_id for row_id, _ in rows]):
            session.execute(update(RequestEventRow).where(RequestEventRow.id.in_(ids)).values(told=True))
    return len(rows)


def _event(row: RequestEventRow) -> log.Event:
    kind = f"request-{row.target}" if row.source != row.target else "request-noted"
    event_id = hashlib.sha256(f"{row.request_id} {row.id}".encode()).hexdigest()
    return log.Event(event_id, kind, row.request_id, time=row.at.isoformat(timespec="seconds"))
