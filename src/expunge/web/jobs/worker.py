# SPDX-License-Identifier: Apache-2.0
"""The worker process: run the queued jobs of a slot one by one, and record their progress."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from expunge.errors import BusyError, ExpungeError
from expunge.progress import Progress
from expunge.web.jobs import job_store
from expunge.web.jobs.job_store import Job
from expunge.web.jobs.kinds import WORK, JobFailed, redact
from expunge.web.jobs.supervisor import take_slot
from expunge.workspace import Workspace

BEAT_SECONDS = 1.0
BUSY_PAUSE_SECONDS, BUSY_SECONDS = 5.0, 3600.0
NICENESS = 5  # pages of the server have priority over training
START_SECONDS = 2.0  # how long to wait for the lock, which the supervisor takes briefly to test it


class StoredProgress(Progress):
    """Progress that another thread reads and stores, so that training never waits for the catalog."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.now: dict[str, Any] = {}
        self._start = 0.0

    def say(self, text: str) -> None:
        """Store a line of text."""
        self.now = {**self.now, "line": text}

    def begin(self, label: str, total: int) -> None:
        """Start a counter."""
        self._start, self._counted, self._of = time.monotonic(), 0, total
        self.now = {**self.now, "label": label, "done": 0, "total": total, "seconds_left": None}

    def add(self, count: int) -> None:
        """Add to the counter."""
        self._counted += count
        elapsed, fraction = time.monotonic() - self._start, min(self._counted / max(self._of, 1), 1.0)
        remaining = round(elapsed / fraction - elapsed, 1) if fraction > 0.02 else None
        self.now = {**self.now, "done": self._counted, "seconds_left": remaining}

    def end(self) -> None:
        """Finish the counter."""
        self.now = {**self.now, "seconds_left": None}


def main(arguments: list[str]) -> int:
    """Run the jobs of a slot: ``python -m expunge.web.jobs.worker FOLDER SLOT``."""
    workspace, slot = Workspace.open(Path(arguments[0])), int(arguments[1])
    started = time.monotonic()
    while (handle := take_slot(workspace, slot)) is None:
        if time.monotonic() - started > START_SECONDS:
            return 0
        time.sleep(0.1)
    try:
        with workspace.session(write=True) as session:
            job_store.recover_jobs(session, slot, workspace.clock())
        while (job := _claim_next(workspace, slot)) is not None:
            run_job(workspace, job)
    finally:
        os.close(handle)
    return 0


def run_job(workspace: Workspace, job: Job, work: Callable[..., dict[str, Any]] | None = None) -> None:
    """Run a job and record its result or error.

    Args:
        workspace: The workspace of the job.
        job: The job, which must be claimed.
        work: The function to call. Default: that of the job's kind.
    """
    progress, ended = StoredProgress(), threading.Event()
    beat = threading.Thread(target=_beat, args=(workspace, job.id, progress, ended), daemon=True)
    beat.start()
    result, error = None, None
    try:
        result = _run_when_free(work or WORK[job.kind], workspace, job, progress)
    except JobFailed as failed:
        result, error = failed.result, failed.error
    except ExpungeError as failed:
        error = redact(failed)
    except Exception as failed:  # a bug must not leave a job in the state running
        error = {
            "error": f"Unexpected {type(failed).__name__}.",
            "reason": "",
            "next": "Run it from the shell.",
        }
    finally:
        ended.set()
        beat.join()
    with workspace.session(write=True) as session:
        job_store.finish(session, job.id, workspace.clock(), result, error)


def _run_when_free(
    work: Callable[..., dict[str, Any]], workspace: Workspace, job: Job, progress: StoredProgress
) -> dict[str, Any]:
    """Run the function; wait and retry while another process is changing the same object."""
    started = time.monotonic()
    while True:
        try:
            return work(workspace, job, progress)
        except BusyError as error:
            if time.monotonic() - started > BUSY_SECONDS:
                raise
            progress.say(f"waits: {error.what}")
            time.sleep(BUSY_PAUSE_SECONDS)


def _beat(workspace: Workspace, job_id: str, progress: StoredProgress, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with suppress(ExpungeError), workspace.session(write=True) as session:
            job_store.record_heartbeat(session, job_id, workspace.clock(), progress.now)


def _claim_next(workspace: Workspace, slot: int) -> Job | None:
    with workspace.session(write=True) as session:
        return job_store.claim(session, slot, os.getpid(), workspace.clock())


if __name__ == "__main__":
    os.nice(NICENESS)
    sys.exit(main(sys.argv[1:]))
