# SPDX-License-Identifier: Apache-2.0
"""The queue of jobs in the catalog. The server adds jobs; worker processes run them.

A worker holds the lock of its slot while it lives, so a free lock shows that the worker of a running job has
died. The job is then started again, as from the command line: an erasure continues where it stopped, a check
starts anew. A job stores ids of requests and names of models, and no error text that may be personal.
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
from expunge.catalog.request_store import mac
from expunge.errors import Conflict, NotFound

if TYPE_CHECKING:
    from expunge.workspace import Workspace


class State(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


QUEUED, RUNNING, DONE, FAILED = (str(state) for state in State)
RUN, RUN_DUE, AUDIT, VERIFY, COMPARE = "run", "run-due", "audit", "verify", "compare"
KINDS = (RUN, RUN_DUE, AUDIT, VERIFY, COMPARE)
# Kinds of jobs of each worker. Two workers run erasures, so that an erasure can preempt a running repair.
# Checks have their own worker, so that they do not delay erasures.
SLOTS: tuple[tuple[str, ...], ...] = ((RUN, RUN_DUE), (RUN, RUN_DUE), (AUDIT, VERIFY, COMPARE))
MAX_ATTEMPTS = 3
CRASHED = {
    "error": "The job ended without a result.",
    "reason": f"Its process died {MAX_ATTEMPTS} times: killed, out of memory, or the machine went down.",
    "next": "Nothing was lost. Check the machine's memory, then start the job again.",
}


@dataclass(frozen=True)
class Job:
    """A job, as a value. Times are in ISO 8601."""

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
        """Whether the job is done or failed."""
        return self.state in (DONE, FAILED)


def submit(
    workspace: Workspace, kind: str, parameters: Mapping[str, Any], account: str, key: str | None = None
) -> Job:
    """Add a job to the queue and return it.

    Args:
        workspace: The workspace of the job.
        kind: One of ``KINDS``.
        parameters: For ``run``: ``requests``; for ``audit``: ``model``, ``request``, ``level``; for
            ``verify``: ``target``, ``replay``; for ``compare``: ``request``.
        account: Name of the account that submits it.
        key: An idempotency key. A repeated call with the same key returns the same job.

    Raises:
        Conflict: If the key was used with other parameters.
    """
    body = [kind, dict(parameters)]
    key_mac = mac(workspace.key, "job-key", [account, key]) if key else None
    body_mac = mac(workspace.key, "job-body", body)
    with workspace.session(write=True) as session:
        if key_mac is not None:
            known = session.scalar(select(JobRow).where(JobRow.key_mac == key_mac))
            if known is not None and known.body_mac != body_mac:
                raise Conflict(
                    "The idempotency key was used for another job.", "", "Use a new key, or repeat the call."
                )
            if known is not None:
                return _as_job(known)
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
        return _as_job(row)


def find(workspace: Workspace, job_id: str) -> Job:
    """Return a job by id.

    Raises:
        NotFound: If it does not exist.
    """
    with workspace.session() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise NotFound("There is no such job.", "", "See the jobs for their ids.")
        return _as_job(row)


def page(
    workspace: Workspace,
    *,
    states: Sequence[str] = (),
    limit: int = 50,
    before: tuple[datetime, str] | None = None,
) -> list[Job]:
    """Return jobs, newest first.

    Args:
        workspace: The workspace of the jobs.
        states: Only these states; empty for all.
        limit: Largest number of jobs.
        before: Creation time and id of a job; only older jobs are returned.
    """
    query = select(JobRow).order_by(JobRow.created.desc(), JobRow.id.desc()).limit(limit)
    if states:
        query = query.where(JobRow.state.in_(states))
    if before is not None:
        at, last = before
        query = query.where((JobRow.created < at) | ((JobRow.created == at) & (JobRow.id < last)))
    with workspace.session() as session:
        return [_as_job(row) for row in session.scalars(query)]


def of_request(workspace: Workspace, request_id: str, most: int = 20) -> list[Job]:
    """Return the newest jobs that concern a request, at most ``most``."""
    concerns = cast(JobRow.parameters, String).contains(request_id, autoescape=True)
    query = select(JobRow).where(concerns).order_by(JobRow.created.desc(), JobRow.id.desc())
    with workspace.session() as session:
        return [_as_job(row) for row in session.scalars(query.limit(most))]


def claim(session: Session, slot: int, pid: int, at: datetime) -> Job | None:
    """Start the oldest queued job of a slot and return it, or None.

    Args:
        session: A session that holds the write lock.
        slot: Slot of the worker.
        pid: Process id of the worker.
        at: Time of the start.
    """
    query = select(JobRow).where(JobRow.state == QUEUED, JobRow.kind.in_(SLOTS[slot]))
    row = session.scalar(query.order_by(JobRow.created, JobRow.id).limit(1))
    if row is None:
        return None
    row.state, row.slot, row.pid, row.attempts = RUNNING, slot, pid, row.attempts + 1
    row.started, row.heartbeat = row.started or at, at
    session.flush()
    return _as_job(row)


def recover_jobs(session: Session, slot: int, at: datetime) -> None:
    """Queue the jobs of a slot's crashed worker again, or mark them failed after ``MAX_ATTEMPTS``."""
    rows = session.scalars(select(JobRow).where(JobRow.state == RUNNING, JobRow.slot == slot)).all()
    for row in rows:
        row.slot = row.pid = None
        row.progress = None
        if row.attempts < MAX_ATTEMPTS:
            row.state = QUEUED
        else:
            row.state, row.error, row.finished = FAILED, dict(CRASHED), at
    session.flush()


def record_heartbeat(session: Session, job_id: str, at: datetime, progress: Mapping[str, Any]) -> None:
    """Record a heartbeat and the progress of a running job."""
    running = (JobRow.id == job_id) & (JobRow.state == RUNNING)
    session.execute(update(JobRow).where(running).values(heartbeat=at, progress=dict(progress)))


def finish(
    session: Session,
    job_id: str,
    at: datetime,
    result: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Record the end of a job. Without an error it is done, else failed."""
    row = session.get_one(JobRow, job_id)
    row.state = DONE if error is None else FAILED
    row.result = None if result is None else dict(result)
    row.error = None if error is None else dict(error)
    row.slot = row.pid = None
    row.heartbeat = row.finished = at


def waiting(session: Session) -> dict[int, int]:
    """Return, for each slot, the number of queued jobs of its kinds plus its jobs marked running."""
    queued: dict[str, int] = dict(
        session.execute(
            select(JobRow.kind, func.count()).where(JobRow.state == QUEUED).group_by(JobRow.kind)
        ).all()
    )
    running: dict[int | None, int] = dict(
        session.execute(
            select(JobRow.slot, func.count()).where(JobRow.state == RUNNING).group_by(JobRow.slot)
        ).all()
    )
    return {
        slot: running.get(slot, 0) + sum(queued.get(kind, 0) for kind in kinds)
        for slot, kinds in enumerate(SLOTS)
    }


def _as_job(row: JobRow) -> Job:
    times = [
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
        *times,  # type: ignore[arg-type]
    )
