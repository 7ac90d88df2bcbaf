# SPDX-License-Identifier: Apache-2.0
"""Sees to it that there are workers while there is work: they outlive the server that started them."""

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
from expunge.web import jobs

if TYPE_CHECKING:
    import subprocess

    from expunge.workspace import Workspace

FOLDER = "jobs"
LOOK_SECONDS = 2.0


class Supervisor:
    """Starts workers for one workspace.

    Args:
        workspace: Whose jobs they do.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Begin to look, now and then, whether work waits for a worker."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; workers go on."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def submit(self, kind: str, asked: Mapping[str, Any], account: str, key: str | None = None) -> jobs.Job:
        """Put a job in the queue (see :func:`expunge.web.jobs.submit`), and look after it at once."""
        job = jobs.submit(self._workspace, kind, asked, account, key)
        self._wake.set()
        return job

    def tend(self) -> None:
        """Start a worker for each free slot for which there is work."""
        self._children = [child for child in self._children if child.poll() is None]
        with self._workspace.session() as session:
            work = jobs.waiting(session)
        left = dict.fromkeys(range(len(jobs.SLOTS)), 0) | work
        for slot in range(len(jobs.SLOTS)):
            if left[slot] > 0 and is_free(self._workspace, slot):
                self._children.append(start_worker(self._workspace, slot))
                for other, kinds in enumerate(jobs.SLOTS):
                    if kinds == jobs.SLOTS[slot]:
                        left[other] -= 1  # this worker takes one of the jobs that both could take

    def _work(self) -> None:
        while not self._ended.is_set():
            with suppress(ExpungeError):  # the disk refuses at this moment: look again later
                self.tend()
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()


def lock_file(workspace: Workspace, slot: int) -> Path:
    """Where the lock of a slot lies: whoever holds it is the slot's worker."""
    return workspace.folder(FOLDER) / f"worker-{slot}.lock"


def take(workspace: Workspace, slot: int) -> int | None:
    """Take the lock of a slot; returns its handle, to be closed at the end, or None if a worker has it."""
    handle = os.open(lock_file(workspace, slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def is_free(workspace: Workspace, slot: int) -> bool:
    """Whether a slot has no worker."""
    handle = take(workspace, slot)
    if handle is None:
        return False
    os.close(handle)
    return True


def start_worker(workspace: Workspace, slot: int) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: signals to the server, or its end, do not reach it."""
    root = workspace.root.absolute()
    return processes.start(
        "expunge.web.worker",
        str(root),
        str(slot),
        folder=root,
        stdin=processes.DEVNULL,
        stdout=processes.DEVNULL,
        stderr=processes.DEVNULL,  # an unexpected error's words may be personal; its kind is in the job
        start_new_session=True,
    )
