# SPDX-License-Identifier: Apache-2.0
"""Proofs about the workspace's log for people to look at: that an entry is in it, that it only ever grew.

Both are RFC 9162's (sections 2.1.3 and 2.1.4). They are made and verified here; whoever does not trust this
machine repeats them with ``expunge verify`` on copies of the log and of a tree head that was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError
from expunge.evidence import dsse, log, merkle
from expunge.evidence.check import Check
from expunge.evidence.keys import public_keys
from expunge.evidence.offline import check_log

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Inclusion:
    """That an entry is in the tree that was signed.

    Attributes:
        entry: The entry.
        size: Entries in the tree.
        root: The tree's root, hex.
        leaf: The entry's hash, hex.
        path: The hashes of the proof, hex, deepest first.
        holds: Whether the path leads from the entry to the root, and the root is the signed one.
        signed: Whether a tree head signs this root.
    """

    entry: log.Entry
    size: int
    root: str
    leaf: str
    path: list[str]
    holds: bool
    signed: bool


def overview(workspace: Workspace) -> dict[str, Any]:
    """Return the log's size, its signed head and what checking it finds.

    Returns:
        ``size``, ``root``, ``signed_at``, ``key`` (None where there is no head) and ``checks``.
    """
    content, head = _content(workspace)
    shown: dict[str, Any] = {"size": 0, "root": None, "signed_at": None, "key": None, "checks": []}
    if not content:
        return shown
    found = check_log(content, head, None, public_keys(workspace), None)
    shown["checks"] = [c.as_json() for c in found if c.name != "consistency"]
    if head is not None:
        try:
            stated = log.parse_head(head)
        except ValueError:  # what is wrong with it stands in the checks
            return shown
        key = stated.envelope.key_id
        shown |= {"size": stated.size, "root": stated.root, "signed_at": stated.time, "key": key}
    return shown


def entries(workspace: Workspace, request_id: str | None = None) -> list[log.Entry]:
    """Return the log's entries (of one request), newest first.

    Raises:
        InputError: If the log is damaged.
    """
    found = _entries(workspace)
    return [e for e in reversed(found) if request_id is None or e.event.request == request_id]


def inclusion(workspace: Workspace, index: int) -> Inclusion:
    """Prove that an entry is in the log, under the signed tree head where it covers the entry.

    Raises:
        InputError: If there is no such entry, or the log is damaged.
    """
    found = _entries(workspace)
    if not 0 <= index < len(found):
        raise InputError(f"The log has no entry {index}.", f"It has {len(found)} entries.", "")
    head = _head(workspace)
    size = head.size if head is not None and index < head.size <= len(found) else len(found)
    lines = [entry.line for entry in found[:size]]
    path, root = merkle.inclusion_proof(lines, index), merkle.tree_hash(lines)
    stated = head.root if head is not None and head.size == size else None
    holds = merkle.verify_inclusion(lines[index], index, size, path, root) and stated in (None, root.hex())
    leaf = merkle.leaf_hash(lines[index]).hex()
    signed = stated == root.hex() and _signature_holds(workspace)
    return Inclusion(found[index], size, root.hex(), leaf, [step.hex() for step in path], holds, signed)


def consistency(workspace: Workspace, earlier: bytes) -> list[dict[str, Any]]:
    """Check that the log continues the one that an earlier tree head signed.

    Args:
        workspace: Whose log.
        earlier: The bytes of a tree head that somebody kept.

    Returns:
        Checks, as ``expunge verify --json`` prints them.
    """
    content, head = _content(workspace)
    checks: Sequence[Check] = check_log(content or b"", head, earlier, public_keys(workspace), None)
    return [check.as_json() for check in checks]


def _content(workspace: Workspace) -> tuple[bytes | None, bytes | None]:
    folder = workspace.root / "log"
    files = (folder / log.ENTRIES, folder / log.HEAD)
    content, head = (file.read_bytes() if file.is_file() else None for file in files)
    return content, head


def _entries(workspace: Workspace) -> list[log.Entry]:
    try:
        return log.entries_of(workspace)
    except log.BrokenLog as error:
        raise InputError(
            "The transparency log is damaged.", f"{error}.", "Restore it from a backup, and find out why."
        ) from error


def _head(workspace: Workspace) -> log.TreeHead | None:
    _, content = _content(workspace)
    try:
        return log.parse_head(content) if content is not None else None
    except ValueError:
        return None


def _signature_holds(workspace: Workspace) -> bool:
    head = _head(workspace)
    key = public_keys(workspace).get(head.envelope.key_id) if head is not None else None
    return head is not None and key is not None and dsse.signature_holds(head.envelope, key)
