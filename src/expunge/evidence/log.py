# SPDX-License-Identifier: Apache-2.0
"""The transparency log: an append-only file of events, and signed heads of its Merkle tree (RFC 9162).

An entry is a line of JSON and holds random request ids and commitments, never who or what. A line is
written and synced before its event counts as told. A crash can tear the last line only: that one is cut
off and written again; a fault before the last line is no crash, and is never repaired.
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
from expunge.evidence import anchor, dsse
from expunge.evidence.keys import PublicKey, SigningKey, signing_key
from expunge.evidence.merkle import tree_hash
from expunge.exact.checkpoint import disk_errors, write_atomically

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
    """The log's lines are not what an append-only log holds; the message says where."""


@dataclass(frozen=True)
class Event:
    """What is told to the log.

    Attributes:
        id: Random or a digest, 32 to 64 hex digits; an event that the log has already is not told twice.
        kind: What happened, in small letters and hyphens.
        request: Random id of the request, or None.
        commitment: Hex digest of something salted or public, or None.
        time: When it happened, ISO 8601 with its zone; None: now.
        data: Further public facts: only of key rotations.
    """

    id: str
    kind: str
    request: str | None = None
    commitment: str | None = None
    time: str | None = None
    data: dict[str, str] | None = None


@dataclass(frozen=True)
class Entry:
    """An event in the log, with the bytes that are hashed."""

    index: int
    event: Event
    line: bytes


@dataclass(frozen=True)
class TreeHead:
    """A signed statement of how many entries the log has, and of their tree's root."""

    size: int
    root: str
    time: str
    envelope: dsse.Envelope


def append(workspace: Workspace, events: Sequence[Event]) -> None:
    """Tell events to the workspace's log, each durably and once, then sign the new tree head.

    Raises:
        InputError: If the log was damaged by something other than a crash, or a backup was restored.
        StorageError: If the disk refuses.
    """
    key, folder = signing_key(workspace), workspace.folder("log")
    with _locked(folder):
        anchor.check(workspace)
        content = _content(folder / ENTRIES)
        lines, head = _continued(folder, content, key.public)
        _cut_torn(folder / ENTRIES, content)
        known = {found for line in lines for found in EVENT_ID.findall(line)}
        fresh = [event for event in events if event.id.encode() not in known]
        if fresh:
            added = [line_of(len(lines) + i, event) for i, event in enumerate(fresh)]
            with disk_errors("The log"), open(folder / ENTRIES, "ab") as file:
                for line in added:
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            lines += added
        if lines and (head is None or head.size < len(lines)):
            made = _sign(lines, key, None)
            write_atomically(folder / HEAD, made.as_bytes(), "The log's tree head")
            signed = parse_head(made.as_bytes())
            anchor.keep(workspace, signed.size, signed.root, signed.time)


def sound_lines(workspace: Workspace, key: PublicKey | None = None) -> list[bytes]:
    """Return the log's lines, if it can be continued; a torn last line is left out.

    Args:
        workspace: Whose log.
        key: Lines under a tree head that this key signed were read before, and only their hash is compared.

    Raises:
        InputError: If it was damaged by something other than a crash.
    """
    folder = workspace.root / "log"
    return _continued(folder, _content(folder / ENTRIES), key)[0]


def entries_of(workspace: Workspace, known: Sequence[Entry] = ()) -> list[Entry]:
    """Return the workspace's log; a torn last line is left out.

    Args:
        workspace: Whose log.
        known: See :func:`parse`.

    Raises:
        BrokenLog: If the log is damaged.
    """
    return parse(_content(workspace.root / "log" / ENTRIES), torn_ok=True, known=known)


def parse(content: bytes, *, torn_ok: bool = False, known: Sequence[Entry] = ()) -> list[Entry]:
    """Read a log's lines.

    Args:
        content: The file's bytes.
        torn_ok: Leave out a last line without its end.
        known: Entries that were read before: where the log begins with the very same lines, only what
            follows is read.

    Raises:
        BrokenLog: If a line is damaged or out of its order.
    """
    *lines, rest = content.split(b"\n")
    if rest and not torn_ok:
        try:
            _entry(len(lines), rest)
        except BrokenLog as error:
            raise BrokenLog("the log breaks off in the midst of its last entry") from error
        lines.append(rest)  # whole, but for its end: an editor took that off
    if lines[: len(known)] != [entry.line for entry in known]:
        known = ()
    return [*known, *(_entry(index, lines[index]) for index in range(len(known), len(lines)))]


def sign_head(entries: Sequence[Entry], key: SigningKey, time: str | None = None) -> dsse.Envelope:
    """Return a signed tree head of the entries, as of a time (None: now)."""
    return _sign([entry.line for entry in entries], key, time)


def _sign(lines: Sequence[bytes], key: SigningKey, time: str | None) -> dsse.Envelope:
    head = {
        "root": tree_hash(lines).hex(),
        "size": len(lines),
        "time": time or datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return dsse.sign(HEAD_TYPE, json.dumps(head, sort_keys=True).encode(), key)


def parse_head(content: bytes) -> TreeHead:
    """Read a tree head, whose signature is not looked at.

    Raises:
        dsse.Malformed: If it is none.
        ValueError: If it is no JSON object at all.
    """
    envelope = dsse.parse(content)
    if envelope.payload_type != HEAD_TYPE:
        raise dsse.Malformed(f"it is no tree head: its payload type is {envelope.payload_type[:60]!r}")
    head = dsse.load_strictly(envelope.payload)
    if set(head) != {"root", "size", "time"} or not isinstance(head["size"], int) or head["size"] < 1:
        raise dsse.Malformed("it is no tree head: root, size or time is wrong")
    return TreeHead(head["size"], str(head["root"]), str(head["time"]), envelope)


def canonical(value: dict[str, Any]) -> bytes:
    """Return the one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def line_of(index: int, event: Event) -> bytes:
    """Return an event's line in the log, without its end."""
    stated = {
        "index": index,
        "event": event.id,
        "kind": event.kind,
        "request": event.request,
        "commitment": event.commitment,
        "time": event.time or datetime.now(UTC).isoformat(timespec="seconds"),
        **({"data": event.data} if event.data else {}),
    }
    line = canonical(stated)
    _entry(index, line)  # nothing is written that could not be read
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
    """Nothing but random ids, commitments and times: so that nobody is named, whoever writes."""
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _continued(folder: Path, content: bytes, key: PublicKey | None) -> tuple[list[bytes], TreeHead | None]:
    """The whole lines of a log that is sound, and its tree head if that holds under the key."""
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
    """The tree head, if the key signed it and the lines are those that it was signed for."""
    try:
        head = parse_head(path.read_bytes())
    except (OSError, ValueError):
        return None
    if head.envelope.key_id != key.key_id or not dsse.signature_holds(head.envelope, key):
        return None
    same = head.size <= len(lines) and tree_hash(lines[: head.size]).hex() == head.root
    return head if same else None


def _cut_torn(path: Path, content: bytes) -> None:
    """Cut off what a crash left of a last line."""
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with disk_errors("The log"), open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with the process."""
    with disk_errors("The log"), open(folder / "lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
