# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes, and conversion of disk errors into :class:`StorageError`."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from expunge.errors import StorageError


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn a disk error into a :class:`StorageError`.

    Args:
        what: What was being written, as the subject of the error message.
    """
    try:
        yield
    except OSError as error:
        _raise_storage(what, error)
    except Exception as error:  # safetensors reports I/O failures with its own class
        if "os error" in str(error).lower() or "no space" in str(error).lower():
            _raise_storage(what, error)
        raise


def _raise_storage(what: str, error: Exception) -> None:
    full = getattr(error, "errno", None) == errno.ENOSPC or "no space" in str(error).lower()
    reason = (
        "The disk is full."
        if full
        else f"The system reports: {getattr(error, 'strerror', None) or type(error).__name__}."
    )
    raise StorageError(
        f"{what} could not be written.",
        reason,
        "Free some space and run the command again. It continues where it stopped; nothing was lost.",
    ) from error


def write_atomically(path: Path, data: bytes, what: str = "A file") -> None:
    """Write bytes so that ``path`` holds either the old content or all of the new content.

    Raises:
        StorageError: If the disk refuses the write.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(what):
        path.parent.mkdir(parents=True, exist_ok=True)
        _delete_abandoned(path)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            temporary.unlink(missing_ok=True)


def _delete_abandoned(path: Path) -> None:
    """Delete temporary files of the same target whose writing process no longer runs."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        pid = temporary.name.removesuffix(".tmp").rpartition(".")[2]
        if not pid.isdigit() or not is_running(int(pid)):
            temporary.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Return whether a process with this id is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
