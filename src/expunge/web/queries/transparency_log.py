# SPDX-License-Identifier: Apache-2.0
"""Queries for the transparency log: pages of entries, the signed tree head, and inclusion proofs."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from expunge.errors import NotFound, StorageError
from expunge.evidence import log, merkle
from expunge.evidence.log import BrokenLog, Entry
from expunge.web.queries.pages import Page, decode, encode

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class _Parsed:
    """Parsed entries of a log, with the inode, size and modification time of its file."""

    state: tuple[int, int, int]
    entries: list[Entry]


_CACHE: dict[str, _Parsed] = {}  # by the log's path; a log only grows, so only new entries are parsed
_CACHE_LOCK = Lock()  # concurrent requests share one parse


def log_page(
    workspace: Workspace, *, request: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page:
    """Return a page of the log's entries, newest first.

    Args:
        workspace: The workspace.
        request: Only entries of this request.
        limit: Largest number of entries.
        cursor: ``next`` of the previous page.

    Raises:
        StorageError: If the log is damaged.
        InputError: If the cursor is invalid.
    """
    entries = _entries(workspace)
    if request is not None:
        entries = [entry for entry in entries if entry.event.request == request]
    before = decode(cursor, int)[0] if cursor is not None else None
    older = [entry for entry in entries if before is None or entry.index < before]
    chosen = older[: -limit - 1 : -1]
    more = len(older) > limit
    items = [_as_json(entry) for entry in chosen]
    return Page(items, encode([chosen[-1].index]) if more and chosen else None, len(entries))


def proof(workspace: Workspace, index: int) -> dict[str, Any]:
    """Return an entry with its inclusion proof (RFC 9162, section 2.1.3), and the result of checking it.

    Returns:
        ``entry``, ``line`` (the hashed line), ``leaf``, ``path``, ``size``, ``root``, ``holds`` (whether the
        proof is valid), and ``head`` (the present signed tree head, or None).

    Raises:
        NotFound: If the entry does not exist.
        StorageError: If the log is damaged.
    """
    entries = _entries(workspace)
    if not 0 <= index < len(entries):
        raise NotFound("There is no such entry.", f"The log has {len(entries)} entries.", "See the log.")
    lines = [entry.line for entry in entries]
    path, root = merkle.inclusion_proof(lines, index), merkle.tree_hash(lines)
    return {
        "entry": _as_json(entries[index]),
        "line": lines[index].decode(),
        "leaf": merkle.leaf_hash(lines[index]).hex(),
        "path": [node.hex() for node in path],
        "size": len(lines),
        "root": root.hex(),
        "holds": merkle.verify_inclusion(lines[index], index, len(lines), path, root),
        "head": _head(workspace),
    }


def _head(workspace: Workspace) -> dict[str, Any] | None:
    try:
        found = log.parse_head((workspace.root / "log" / log.HEAD).read_bytes())
    except (OSError, ValueError):
        return None
    return {
        "size": found.size, "root": found.root, "time": found.time, "key": found.envelope.key_id,
    }  # fmt: skip


def _entries(workspace: Workspace) -> list[Entry]:
    file = workspace.root / "log" / log.ENTRIES
    try:
        stat = file.stat()
    except OSError:
        return []
    state = stat.st_ino, stat.st_size, stat.st_mtime_ns
    with _CACHE_LOCK:
        known = _CACHE.get(str(file))
        if known is None or known.state != state:
            try:
                known = _Parsed(state, log.entries_of(workspace, known.entries if known else ()))
            except BrokenLog as error:
                raise StorageError(
                    "The transparency log is damaged.", f"{error}.", "Verify it with: expunge verify"
                ) from error
            _CACHE[str(file)] = known
    return known.entries


def _as_json(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "index": entry.index,
        "kind": event.kind,
        "request": event.request,
        "commitment": event.commitment,
        "time": event.time,
        "event": event.id,
    }
