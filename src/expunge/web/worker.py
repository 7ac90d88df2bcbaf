# SPDX-License-Identifier: Apache-2.0
"""A worker: takes jobs of its slot one by one, tells how far it is, and ends when there are no more."""

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
from expunge.web import jobs
from expunge.web.jobs import Job
from expunge.web.supervisor import take
from expunge.web.work import WORK, Failed, told
from expunge.workspace import Workspace

BEAT_SECONDS = 1.0
BUSY_PAUSE_SECONDS, BUSY_SECONDS = 5.0, 3600.0
NICER = 5  # than the server: people wait for pages, nobody for a second of a training
START_SECONDS = 2.0  # somebody may just look whether the lock is free


class Counted(Progress):
    """Progress that another thread reads: nothing that trains ever waits for the catalog."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.now: dict[str, Any] = {}
        self._start = 0.0

    def say(self, text: str) -> None:
        """Keep a line."""
        self.now = {**self.now, "line": text}

    def begin(self, label: str, total: int) -> None:
        """Start counting."""
        self._start, self._counted, self._of = time.monotonic(), 0, total
        self.now = {**self.now, "label": label, "done": 0, "total": total, "seconds_left": None}

    def add(self, count: int) -> None:
        """Count on."""
        self._counted += count
        spent, share = time.monotonic() - self._start, min(self._counted / max(self._of, 1), 1.0)
        left = round(spent / share - spent, 1) if share > 0.02 else None
        self.now = {**self.now, "done": self._counted, "seconds_left": left}

    def end(self) -> None:
        """Finish counting."""
        self.now = {**self.now, "seconds_left": None}


def main(arguments: list[str]) -> int:
    """Work on the jobs of a slot: ``python -m expunge.web.worker FOLDER SLOT``."""
    workspace, slot = Workspace.open(Path(arguments[0])), int(arguments[1])
    began = time.monotonic()
    while (handle := take(workspace, slot)) is None:
        if time.monotonic() - began > START_SECONDS:
            return 0
        time.sleep(0.1)
    try:
        with workspace.session(write=True) as session:
            jobs.take_over(session, slot, workspace.clock())
        while (job := _next(workspace, slot)) is not None:
            do(workspace, job)
    finally:
        os.close(handle)
    return 0


def do(workspace: Workspace, job: Job, work: Callable[..., dict[str, Any]] | None = None) -> None:
    """Do one job to its end, and record how it ended.

    Args:
        workspace: Where.
        job: Which; it was claimed.
        work: What does it; None: what its kind says.
    """
    progress, ended = Counted(), threading.Event()
    beat = threading.Thread(target=_beat, args=(workspace, job.id, progress, ended), daemon=True)
    beat.start()
    result, error = None, None
    try:
        result = _patiently(work or WORK[job.kind], workspace, job, progress)
    except Failed as failed:
        result, error = failed.result, failed.error
    except ExpungeError as failed:
        error = told(failed)
    except Exception as failed:  # a fault of ours must not leave a job that seems to run
        error = {
            "error": f"Unexpected {type(failed).__name__}.",
            "reason": "",
            "next": "Run it from the shell.",
        }
    finally:
        ended.set()
        beat.join()
    with workspace.session(write=True) as session:
        jobs.finish(session, job.id, workspace.clock(), result, error)


def _patiently(
    work: Callable[..., dict[str, Any]], workspace: Workspace, job: Job, progress: Counted
) -> dict[str, Any]:
    """Do it; where another process works on the same, wait for that."""
    began = time.monotonic()
    while True:
        try:
            return work(workspace, job, progress)
        except BusyError as error:
            if time.monotonic() - began > BUSY_SECONDS:
                raise
            progress.say(f"waits: {error.what}")
            time.sleep(BUSY_PAUSE_SECONDS)


def _beat(workspace: Workspace, job_id: str, progress: Counted, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with suppress(ExpungeError), workspace.session(write=True) as session:
            jobs.beat(session, job_id, workspace.clock(), progress.now)


def _next(workspace: Workspace, slot: int) -> Job | None:
    with workspace.session(write=True) as session:
        return jobs.claim(session, slot, os.getpid(), workspace.clock())


if __name__ == "__main__":
    os.nice(NICER)
    sys.exit(main(sys.argv[1:]))
