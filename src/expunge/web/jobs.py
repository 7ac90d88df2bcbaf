# SPDX-License-Identifier: Apache-2.0
"""Long work as rows of the catalog: put in by the server, done by processes of their own.

A worker holds the lock of its slot as long as it lives, so a job whose worker died is known by a lock that
is free. It is taken up again, as the command line would: an erasure goes on where it was, a check begins
anew. A job keeps ids of requests and names of models, and of an error no words that might be personal.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, cast, func, select, update
from sqlalchemy.orm import Session

from expunge.catalog.desk_tables import JobRow
from expunge.catalog.requests import mac
from expunge.errors import Conflict, NotFound

if TYPE_CHECKING:
    from expunge.workspace import Workspace


class State(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


QUEUED, RUNNING, DONE, FAILED = (str(state) for state in State)
RUN, RUN_DUE, AUDIT, VERIFY, COMPARE = "run", "run-due", "audit", "verify", "compare"
KINDS = (RUN, RUN_DUE, AUDIT, VERIFY, COMPARE)
# Which kinds each worker takes. Two of them run erasures, so that a new one can make a running repair give
# way; checks have one of their own, so that they hold up no erasure.
SLOTS: tuple[tuple[str, ...], ...] = ((RUN, RUN_DUE), (RUN, RUN_DUE), (AUDIT, VERIFY, COMPARE))
MOST_ATTEMPTS = 3
GONE = {
    "error": "The work ended without a result.",
    "reason": f"Its process died {MOST_ATTEMPTS} times: killed, out of memory, or the machine went down.",
    "next": "Nothing was lost: see to the machine's memory, then start it again.",
}


@dataclass(frozen=True)
class Job:
    """A job, as a value; moments in ISO 8601."""

    id: str
    kind: str
    parameters: dict[str, Any]
    state: str
    account: str
    attempts: int
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created: str
    started: str | None
    heartbeat: str | None
    finished: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in (DONE, FAILED)


def submit(
    workspace: Workspace, kind: str, parameters: Mapping[str, Any], account: str, key: str | None = None
) -> Job:
    """Put a job in the queue.

    Args:
        workspace: Where.
        kind: One of ``KINDS``.
        parameters: Of ``run``: ``requests``; of ``audit``: ``model``, ``request``, ``level``; of ``verify``:
            ``target``, ``replay``; of ``compare``: ``request``.
        account: Who wants it.
        key: An idempotency key: the same call again gives the same job.

    Raises:
        Conflict: If the key came with something else before.
    """
    body = [kind, dict(parameters)]
    key_mac = mac(workspace.key, "job-key", [account, key]) if key else None
    body_mac = mac(workspace.key, "job-body", body)
    with workspace.session(write=True) as session:
        if key_mac is not None:
            known = session.scalar(select(JobRow).where(JobRow.key_mac == key_mac))
            if known is not None and known.body_mac != body_mac:
                raise Conflict(
                    "The idempotency key was used for other work.", "", "Use a new key, or repeat the call."
                )
            if known is not None:
                return _value(known)
        row = JobRow(
            id=f"j-{secrets.token_hex(8)}",
            kind=kind,
            parameters=dict(parameters),
            state=QUEUED,
            account=account,
            attempts=0,
            key_mac=key_mac,
            body_mac=body_mac,
            created=workspace.clock(),
        )
        session.add(row)
        session.flush()
        return _value(row)


def find(workspace: Workspace, job_id: str) -> Job:
    """Return a job.

    Raises:
        NotFound: If there is none of that id.
    """
    with workspace.session() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise NotFound("There is no such job.", "", "See the jobs for their ids.")
        return _value(row)


def page(
    workspace: Workspace,
    *,
    states: Sequence[str] = (),
    limit: int = 50,
    before: tuple[datetime, str] | None = None,
) -> list[Job]:
    """Return jobs, the newest first; ``before``: only those after this one in that order."""
    query = select(JobRow).order_by(JobRow.created.desc(), JobRow.id.desc()).limit(limit)
    if states:
        query = query.where(JobRow.state.in_(states))
    if before is not None:
        at, last = before
        query = query.where((JobRow.created < at) | ((JobRow.created == at) & (JobRow.id < last)))
    with workspace.session() as session:
        return [_value(row) for row in session.scalars(query)]


def of_request(workspace: Workspace, request_id: str, most: int = 20) -> list[Job]:
    """Return the newest jobs that are about a request."""
    named = cast(JobRow.parameters, String).contains(request_id, autoescape=True)
    query = select(JobRow).where(named).order_by(JobRow.created.desc(), JobRow.id.desc())
    with workspace.session() as session:
        return [_value(row) for row in session.scalars(query.limit(most))]


def claim(session: Session, slot: int, pid: int, at: datetime) -> Job | None:
    """Take the oldest job that waits for a worker of this slot, in a session that holds the write lock."""
    query = select(JobRow).where(JobRow.state == QUEUED, JobRow.kind.in_(SLOTS[slot]))
    row = session.scalar(query.order_by(JobRow.created, JobRow.id).limit(1))
    if row is None:
        return None
    row.state, row.slot, row.pid, row.attempts = RUNNING, slot, pid, row.attempts + 1
    row.started, row.heartbeat = row.started or at, at
    session.flush()
    return _value(row)


def take_over(session: Session, slot: int, at: datetime) -> None:
    """Queue again what the dead worker of a slot had, or give it up after some attempts."""
    rows = session.scalars(select(JobRow).where(JobRow.state == RUNNING, JobRow.slot == slot)).all()
    for row in rows:
        row.slot = row.pid = None
        row.progress = None
        if row.attempts < MOST_ATTEMPTS:
            row.state = QUEUED
        else:
            row.state, row.error, row.finished = FAILED, dict(GONE), at
    session.flush()


def beat(session: Session, job_id: str, at: datetime, progress: Mapping[str, Any]) -> None:
    """Say that the worker lives, and how far it is."""
    mine = (JobRow.id == job_id) & (JobRow.state == RUNNING)
    session.execute(update(JobRow).where(mine).values(heartbeat=at, progress=dict(progress)))


def finish(
    session: Session,
    job_id: str,
    at: datetime,
    result: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Record how a job ended."""
    row = session.get_one(JobRow, job_id)
    row.state = DONE if error is None else FAILED
    row.result = None if result is None else dict(result)
    row.error = None if error is None else dict(error)
    row.slot = row.pid = None
    row.heartbeat = row.finished = at


def waiting(session: Session) -> dict[int, int]:
    """Return for each slot how many jobs its worker could take, or has left behind."""
    queued: dict[str, int] = dict(
        session.execute(
            select(JobRow.kind, func.count()).where(JobRow.state == QUEUED).group_by(JobRow.kind)
        ).all()
    )
    left: dict[int | None, int] = dict(
        session.execute(
            select(JobRow.slot, func.count()).where(JobRow.state == RUNNING).group_by(JobRow.slot)
        ).all()
    )
    return {
        slot: left.get(slot, 0) + sum(queued.get(kind, 0) for kind in kinds)
        for slot, kinds in enumerate(SLOTS)
    }


def _value(row: JobRow) -> Job:
    moments = [
        m and m.isoformat(timespec="seconds") for m in (row.created, row.started, row.heartbeat, row.finished)
    ]
    return Job(
        row.id,
        row.kind,
        dict(row.parameters),
        row.state,
        row.account,
        row.attempts,
        row.progress,
        row.result,
        row.error,
        *moments,  # type: ignore[arg-type]
    )
