# SPDX-License-Identifier: Apache-2.0
"""The transparency log: an append-only file of events, and signed heads of its Merkle tree (RFC 9162).

An entry is a line of JSON. It holds random request ids and commitments, and no personal data. A line is
written and synced before its event is marked as logged. A crash can leave only an incomplete last line, which
is cut off and written again. Damage before the last line is tampering or a disk fault and is never repaired.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError
from expunge.evidence import dsse
from expunge.evidence.key_store import PublicKey, SigningKey
from expunge.evidence.merkle import tree_hash
from expunge.storage.files import disk_errors

if TYPE_CHECKING:
    from expunge.workspace import Workspace

ENTRIES, HEAD = "events.jsonl", "tree-head.json"
HEAD_TYPE = "application/vnd.expunge.tree-head+json"
ROTATED = "key-rotated"
REQUEST = re.compile(r"r-[0-9a-f]{16}")
KIND = re.compile(r"[a-z][a-z-]{0,39}")
HEX = re.compile(r"[0-9a-f]{32,64}")
EVENT_ID = re.compile(rb'"event":"([0-9a-f]+)"')


class BrokenLog(ValueError):
    """A line of the log is damaged or out of order; the message names the entry."""


@dataclass(frozen=True)
class Event:
    """An event for the log.

    Attributes:
        id: Random or a digest, 32 to 64 hex digits; an id is appended only once.
        kind: Kind of event, in lowercase letters and hyphens.
        request: Random id of the request, or None.
        commitment: Hex digest of salted or public data, or None.
        time: Time of the event, ISO 8601 with time zone; None: now.
        data: Further public data; only used for key rotations.
    """

    id: str
    kind: str
    request: str | None = None
    commitment: str | None = None
    time: str | None = None
    data: dict[str, str] | None = None


@dataclass(frozen=True)
class Entry:
    """An event at its position in the log, with the bytes that are hashed."""

    index: int
    event: Event
    line: bytes


@dataclass(frozen=True)
class TreeHead:
    """A signed statement of the number of log entries and of the root of their Merkle tree."""

    size: int
    root: str
    time: str
    envelope: dsse.Envelope


def sound_lines(workspace: Workspace, key: PublicKey | None = None) -> list[bytes]:
    """Return the lines of a sound log; an incomplete last line is left out.

    Args:
        workspace: The workspace of the log.
        key: Lines covered by a tree head that this key signed are checked by their hash only.

    Raises:
        InputError: If the log was damaged by something other than a crash.
    """
    folder = workspace.root / "log"
    return continued(folder, content_of(folder / ENTRIES), key)[0]


def entries_of(workspace: Workspace, known: Sequence[Entry] = ()) -> list[Entry]:
    """Return the entries of the workspace's log; an incomplete last line is left out.

    Args:
        workspace: The workspace of the log.
        known: See :func:`parse`.

    Raises:
        BrokenLog: If the log is damaged.
    """
    return parse(content_of(workspace.root / "log" / ENTRIES), torn_ok=True, known=known)


def parse(content: bytes, *, torn_ok: bool = False, known: Sequence[Entry] = ()) -> list[Entry]:
    """Return the entries of a log file.

    Args:
        content: The file's bytes.
        torn_ok: Leave out an incomplete last line.
        known: Entries that were parsed before; if the log begins with the same lines, only the lines after
            them are parsed.

    Raises:
        BrokenLog: If a line is damaged or out of order.
    """
    *lines, rest = content.split(b"\n")
    if rest and not torn_ok:
        try:
            _entry(len(lines), rest)
        except BrokenLog as error:
            raise BrokenLog("the log breaks off in the midst of its last entry") from error
        lines.append(rest)  # complete, but an editor removed the final line end
    if lines[: len(known)] != [entry.line for entry in known]:
        known = ()
    return [*known, *(_entry(index, lines[index]) for index in range(len(known), len(lines)))]


def sign_head(entries: Sequence[Entry], key: SigningKey, time: str | None = None) -> dsse.Envelope:
    """Return a signed tree head of the entries; ``time`` is ISO 8601, None: now."""
    return _sign([entry.line for entry in entries], key, time)


def _sign(lines: Sequence[bytes], key: SigningKey, time: str | None) -> dsse.Envelope:
    """Return a signed tree head of the entries with these lines."""
    head = {
        "root": tree_hash(lines).hex(),
        "size": len(lines),
        "time": time or datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return dsse.sign(HEAD_TYPE, json.dumps(head, sort_keys=True).encode(), key)


def parse_head(content: bytes) -> TreeHead:
    """Return a parsed tree head; its signature is not verified.

    Raises:
        dsse.Malformed: If the object is no tree head.
        ValueError: If the content is no JSON object.
    """
    envelope = dsse.parse(content)
    if envelope.payload_type != HEAD_TYPE:
        raise dsse.Malformed(f"it is no tree head: its payload type is {envelope.payload_type[:60]!r}")
    head = dsse.load_strictly(envelope.payload)
    if set(head) != {"root", "size", "time"} or not isinstance(head["size"], int) or head["size"] < 1:
        raise dsse.Malformed("it is no tree head: root, size or time is wrong")
    return TreeHead(head["size"], str(head["root"]), str(head["time"]), envelope)


def canonical(value: dict[str, Any]) -> bytes:
    """Return a value as canonical JSON: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def line_of(index: int, event: Event) -> bytes:
    """Return an event as a line of the log, without the line end."""
    fields = {
        "index": index,
        "event": event.id,
        "kind": event.kind,
        "request": event.request,
        "commitment": event.commitment,
        "time": event.time or datetime.now(UTC).isoformat(timespec="seconds"),
        **({"data": event.data} if event.data else {}),
    }
    line = canonical(fields)
    _entry(index, line)  # raises if the line could not be read back
    return line


def _entry(index: int, line: bytes) -> Entry:
    try:
        found = dsse.load_strictly(line)
    except ValueError as error:
        raise BrokenLog(f"entry {index} of the log is damaged") from error
    data = found.pop("data", None)
    if set(found) != {"index", "event", "kind", "request", "commitment", "time"}:
        raise BrokenLog(f"entry {index} of the log has other fields than an entry")
    if found.pop("index") != index:
        raise BrokenLog(f"entry {index} of the log is missing, or not in its order")
    event = Event(id=found.pop("event"), data=data, **found)
    if not _sound(event):
        raise BrokenLog(f"entry {index} of the log holds what no event holds")
    return Entry(index, event, line)


def _sound(event: Event) -> bool:
    """Return whether an event holds only random ids, commitments and times, so that no person is named."""
    if event.data is not None and (
        event.kind != ROTATED or not isinstance(event.data, dict) or set(event.data) != {"old", "new", "sig"}
    ):
        return False
    try:
        datetime.fromisoformat(str(event.time))
    except ValueError:
        return False
    return bool(
        HEX.fullmatch(str(event.id))
        and KIND.fullmatch(str(event.kind))
        and (event.request is None or REQUEST.fullmatch(str(event.request)))
        and (event.commitment is None or HEX.fullmatch(str(event.commitment)))
    )


def content_of(path: Path) -> bytes:
    """Return a file's bytes; empty if there is no file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def continued(folder: Path, content: bytes, key: PublicKey | None) -> tuple[list[bytes], TreeHead | None]:
    """Return a log's complete lines, and its tree head if the key signed it for these lines.

    Raises:
        InputError: If a complete line is damaged or out of order.
    """
    *lines, _ = content.split(b"\n")
    head = _head_of(folder / HEAD, lines, key) if key is not None else None
    try:
        for index in range(head.size if head else 0, len(lines)):
            _entry(index, lines[index])
    except BrokenLog as error:
        raise InputError(
            "The transparency log is damaged.",
            f"{error}. A crash cannot have done this.",
            "Restore the folder 'log' of the workspace from a backup, and find out who changed it.",
        ) from error
    return lines, head


def _head_of(path: Path, lines: Sequence[bytes], key: PublicKey) -> TreeHead | None:
    """Return the tree head, or None unless the key signed it for these lines."""
    try:
        head = parse_head(path.read_bytes())
    except (OSError, ValueError):
        return None
    if head.envelope.key_id != key.key_id or not dsse.signature_holds(head.envelope, key):
        return None
    same = head.size <= len(lines) and tree_hash(lines[: head.size]).hex() == head.root
    return head if same else None


def cut_torn(path: Path, content: bytes) -> None:
    """Truncate an incomplete last line that a crash left."""
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with disk_errors("The log"), open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the log's write lock; the operating system releases it when the process ends."""
    with disk_errors("The log"), open(folder / "lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
