# SPDX-License-Identifier: Apache-2.0
"""Read files given by users: regular files only, and JSON and TOML of bounded depth.

Named pipes, sockets and devices are refused before they are opened, so that no read blocks. For YAML see
:mod:`expunge.storage.user_yaml`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

MAX_DEPTH = 64
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFile(OSError):
    """The path is not a regular file."""


class TooComplex(ValueError):
    """The content is nested too deeply or is too large."""


def open_file(path: Path | str) -> BinaryIO:
    """Open a regular file for reading, without blocking.

    Raises:
        NotAFile: If it is a folder, a pipe, a socket or a device.
        OSError: If it cannot be opened.
    """
    _refuse_special(path, os.stat(path).st_mode)  # before opening: opening a device can have side effects
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_special(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path | str) -> bytes:
    """Return the bytes of a regular file. Errors as for :func:`open_file`."""
    with open_file(path) as file:
        return file.read()


def read_text(path: Path | str, errors: str = "strict") -> str:
    """Return the text of a regular UTF-8 file, without the byte-order mark.

    Raises:
        OSError: As for :func:`open_file`.
        UnicodeDecodeError: If the file is not UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig", errors)


def open_text(path: Path | str) -> io.TextIOWrapper:
    """Open a regular UTF-8 file for a CSV reader: line ends unchanged, byte-order mark removed."""
    return io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="")


def parse_json(content: str | bytes, **hooks: Any) -> Any:
    """Parse JSON of bounded depth.

    Args:
        content: The text, or its bytes in UTF-8.
        hooks: Keyword arguments of ``json.loads``.

    Raises:
        ValueError: If the content is not JSON.
        TooComplex: If it is nested more than ``MAX_DEPTH`` levels deep.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    value = guard_recursion(lambda: json.loads(text, **hooks))
    _refuse_deep(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML of bounded depth. Errors as for :func:`parse_json`."""
    value: dict[str, Any] = guard_recursion(lambda: tomllib.loads(text))
    _refuse_deep(value)
    return value


def guard_recursion(parse: Callable[[], Any]) -> Any:
    """Call a parser, and raise :class:`TooComplex` if its input exhausts the stack."""
    try:
        return parse()
    except RecursionError as error:
        raise TooComplex("it is nested too deep") from error


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for node in level
            if isinstance(node, (dict, list))
            for part in (node.values() if isinstance(node, dict) else node)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")


def _refuse_special(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in KINDS if test(mode)), "something else")
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise NotAFile(number, f"It is {kind}, not a file", str(path))
