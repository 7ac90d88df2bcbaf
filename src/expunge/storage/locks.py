# SPDX-License-Identifier: Apache-2.0
"""Locks that allow one writer per model, and one closing at a time.

An erasure can ask a running repair to give way.
"""

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
CLOSING = ".closing"  # no model is named so
UNKNOWN_SECONDS = 2.0  # how long to wait for a new holder to write its purpose


class ModelLock:
    """A lock held on a model."""

    def __init__(self, file: Path, handle: int) -> None:
        self._file, self._handle = file, handle

    def say(self, what: str) -> None:
        """Write the holder's purpose into the lock file: ``train``, ``forget`` or ``repair``.

        Only a ``repair`` can give way.
        """
        text = json.dumps({"pid": os.getpid(), "what": what}).ljust(LINE_BYTES).encode()
        os.pwrite(self._handle, text, 0)  # fixed length, so that no reader sees a partial record

    def preempted(self) -> bool:
        """Return whether an erasure is waiting for this lock."""
        return _preempt_flag(self._file).exists()


@contextmanager
def model_lock(folder: Path, model: str, what: str, *, urgent: bool = False) -> Iterator[ModelLock]:
    """Acquire a model's lock and hold it within the context.

    Args:
        folder: The workspace's folder of lock files.
        model: Name of the model.
        what: Purpose of the holder (see :meth:`ModelLock.say`).
        urgent: Ask a running repair to give way, and wait for it.

    Raises:
        BusyError: If another process holds the lock and does not give way.
        StorageError: If the lock file cannot be written.
    """
    path = folder / f"{model}.lock"
    with _disk_errors(model):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock = ModelLock(path, handle)
        with _disk_errors(model):
            _acquire(handle, path, model, urgent)
            lock.say(what)
            _preempt_flag(path).unlink(missing_ok=True)
        yield lock
    finally:
        os.close(handle)  # releases the lock, as the end of a killed process does


@contextmanager
def closing_lock(folder: Path) -> Iterator[None]:
    """Wait for the lock under which requests are closed, and hold it within the context.

    Two processes that closed one request at the same time could leave the earlier certificate.

    Args:
        folder: The workspace's folder of lock files.

    Raises:
        StorageError: If the lock file cannot be written.
    """
    try:
        handle = os.open(folder / CLOSING, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(
            "The lock under which requests are closed cannot be written.",
            error.strerror or str(error),
            "Check that the workspace's disk is writable and has free space, then run the command again.",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, model: str, urgent: bool) -> None:
    started, requested = time.monotonic(), False
    while not _try_lock(handle):
        holder, waited = _read_holder(path), time.monotonic() - started
        gives_way = urgent and holder.get("what") == "repair" and waited < GIVE_WAY_SECONDS
        if not gives_way and (holder or waited > UNKNOWN_SECONDS):
            if requested:
                _preempt_flag(path).unlink(missing_ok=True)  # a later repair must not give way needlessly
            raise BusyError(
                f"The model {model!r} is being changed by another process.",
                f"Process {holder.get('pid', '?')} holds it, to {holder.get('what', 'work on it')}.",
                "Wait for it to end, then run the command again.",
            )
        if gives_way:
            _preempt_flag(path).touch()
            requested = True
        time.sleep(POLL_SECONDS)


@contextmanager
def _disk_errors(model: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The lock of the model {model!r} cannot be written.",
            error.strerror or str(error),
            "Check that the workspace's disk is writable and has free space. Nothing was changed.",
        ) from error


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _preempt_flag(path: Path) -> Path:
    return path.with_suffix(".preempt")


def _read_holder(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
