# SPDX-License-Identifier: Apache-2.0
"""One writer for each model; the next is told who holds it, and a forget makes a repair give way."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge.errors import BusyError, StorageError

GIVE_WAY_SECONDS = 120.0
POLL_SECONDS = 0.1
LINE_BYTES = 80
UNKNOWN_SECONDS = 2.0  # a holder says at once what it does


class ModelLock:
    """A held lock. ``preempted()`` says whether an erasure is waiting for it."""

    def __init__(self, file: Path, handle: int) -> None:
        self._file, self._handle = file, handle

    def say(self, what: str) -> None:
        """Tell others what the holder does: ``train``, ``forget`` or ``repair`` (which can give way)."""
        text = json.dumps({"pid": os.getpid(), "what": what}).ljust(LINE_BYTES).encode()
        os.pwrite(self._handle, text, 0)  # of one length: no reader sees a half of it

    def preempted(self) -> bool:
        """Whether somebody waits to erase."""
        return _flag(self._file).exists()


@contextmanager
def model_lock(folder: Path, model: str, what: str, *, urgent: bool = False) -> Iterator[ModelLock]:
    """Hold a model's lock.

    Args:
        folder: The workspace's folder of locks.
        model: The model's name.
        what: See :meth:`ModelLock.say`.
        urgent: Ask a running repair to give way, and wait for it.

    Raises:
        BusyError: If another process holds the lock (and is not a repair that gave way).
    """
    path = folder / f"{model}.lock"
    with _disk_errors(model):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock = ModelLock(path, handle)
        with _disk_errors(model):
            _acquire(handle, path, model, urgent)
            lock.say(what)
            _flag(path).unlink(missing_ok=True)
        yield lock
    finally:
        os.close(handle)  # also releases it; a killed process releases it the same way


def _acquire(handle: int, path: Path, model: str, urgent: bool) -> None:
    began, asked = time.monotonic(), False
    while not _try(handle):
        holder, waited = _holder(path), time.monotonic() - began
        gives_way = urgent and holder.get("what") == "repair" and waited < GIVE_WAY_SECONDS
        if not gives_way and (holder or waited > UNKNOWN_SECONDS):
            if asked:
                _flag(path).unlink(missing_ok=True)  # a later repair must not give way to nobody
            raise BusyError(
                f"The model {model!r} is being changed by another process.",
                f"Process {holder.get('pid', '?')} holds it, to {holder.get('what', 'work on it')}.",
                "Wait for it to end, then run the command again.",
            )
        if gives_way:
            _flag(path).touch()
            asked = True
        time.sleep(POLL_SECONDS)


@contextmanager
def _disk_errors(model: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The lock of the model {model!r} cannot be written.",
            error.strerror or str(error),
            "See to it that the workspace's disk has space and may be written to; nothing was changed.",
        ) from error


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flag(path: Path) -> Path:
    return path.with_suffix(".preempt")


def _holder(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
