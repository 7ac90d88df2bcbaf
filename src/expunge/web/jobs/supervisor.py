# SPDX-License-Identifier: Apache-2.0
"""Start worker processes while there are jobs. Workers outlive the server that started them."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge import processes
from expunge.errors import ExpungeError
from expunge.web.jobs import job_store

if TYPE_CHECKING:
    import subprocess

    from expunge.workspace import Workspace

FOLDER = "jobs"
POLL_SECONDS = 2.0


class Supervisor:
    """Starts workers for the jobs of one workspace.

    Args:
        workspace: The workspace.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the thread that polls the queue."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Workers continue."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def submit(
        self, kind: str, parameters: Mapping[str, Any], account: str, key: str | None = None
    ) -> job_store.Job:
        """Add a job to the queue (see :func:`expunge.web.jobs.job_store.submit`) and wake the thread."""
        job = job_store.submit(self._workspace, kind, parameters, account, key)
        self._wake.set()
        return job

    def tend(self) -> None:
        """Start a worker for each free slot that has jobs."""
        self._children = [child for child in self._children if child.poll() is None]
        with self._workspace.session() as session:
            waiting = job_store.waiting(session)
        remaining = dict.fromkeys(range(len(job_store.SLOTS)), 0) | waiting
        for slot in range(len(job_store.SLOTS)):
            if remaining[slot] > 0 and is_free(self._workspace, slot):
                self._children.append(start_worker(self._workspace, slot))
                for other, kinds in enumerate(job_store.SLOTS):
                    if kinds == job_store.SLOTS[slot]:
                        remaining[other] -= 1  # the new worker takes one of the jobs that both could take

    def _work(self) -> None:
        while not self._ended.is_set():
            with suppress(ExpungeError):  # the disk refuses now: try again later
                self.tend()
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()


def lock_file(workspace: Workspace, slot: int) -> Path:
    """Return the path of a slot's lock file. The slot's worker holds the lock."""
    return workspace.folder(FOLDER) / f"worker-{slot}.lock"


def take_slot(workspace: Workspace, slot: int) -> int | None:
    """Take the lock of a slot; return its file handle, which the caller closes, or None if it is held."""
    handle = os.open(lock_file(workspace, slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def is_free(workspace: Workspace, slot: int) -> bool:
    """Return whether a slot has no worker."""
    handle = take_slot(workspace, slot)
    if handle is None:
        return False
    os.close(handle)
    return True


def start_worker(workspace: Workspace, slot: int) -> subprocess.Popen[bytes]:
    """Start a worker in its own process session, so that signals to the server do not reach it."""
    root = workspace.root.absolute()
    return processes.start(
        "expunge.web.jobs.worker",
        str(root),
        str(slot),
        folder=root,
        stdin=processes.DEVNULL,
        stdout=processes.DEVNULL,
        stderr=processes.DEVNULL,  # text of unexpected errors may be personal; the job stores their type
        start_new_session=True,
    )
