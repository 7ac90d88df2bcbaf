# SPDX-License-Identifier: Apache-2.0
"""The anchor: a record outside the workspace by which a restored backup is recognised.

A restored backup holds an old catalog, with people who were erased later, and an old log that matches it, so
the workspace itself looks sound. A folder beside the keys therefore stores for each workspace its newest tree
head, the id of its last event, and its suppression list (keyed digests, as in the catalog). Every command
that trains, publishes or writes to the log compares the workspace with it first. The name of the folder is
derived from the suppression secret, which every backup contains.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError, StorageError
from expunge.evidence import log, merkle
from expunge.evidence.pins import keys_folder
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace

VARIABLE = "EXPUNGE_ANCHORS"
NONE = "none"  # for temporary workspaces: no anchor is stored, and no restored backup is recognised
STATE, SUPPRESSION = "state.json", "suppression.txt"
MARKER = "restored.unfinished"  # file in the workspace: restored people are not all erased again yet
NEXT = (
    "Restore the newest backup, catalog and log together. If what came later is lost for good, let it be"
    " erased again: expunge restored"
)
_accepted: ContextVar[bool] = ContextVar("accepted", default=False)


@dataclass(frozen=True)
class AnchorState:
    """The stored state of a workspace: its newest tree head and the position of its catalog.

    Attributes:
        size: Number of log entries.
        root: Root of their Merkle tree, hex.
        time: Time of the signature, ISO 8601.
        log_bytes: Size of the log file, bytes.
        last_event: Id of the newest event in the catalog.
        suppressed: Number of entries of the suppression list, and id of the last one.
    """

    size: int
    root: str
    time: str
    log_bytes: int
    last_event: int
    suppressed: tuple[int, int]


def folder_of(workspace: Workspace) -> Path | None:
    """Return the folder of the anchor, below EXPUNGE_ANCHORS or beside the keys; None: anchors are off."""
    variable = os.environ.get(VARIABLE)
    if variable == NONE:
        return None
    parent = Path(os.path.abspath(variable)) if variable else keys_folder() / "anchors"
    return parent / hmac.digest(workspace.key, b"expunge anchor", "sha256").hex()[:32]


def load_state(workspace: Workspace) -> AnchorState | None:
    """Return the stored state of a workspace; None if there is none.

    Raises:
        InputError: If the file exists but cannot be read.
    """
    folder = folder_of(workspace)
    if folder is None:
        return None
    try:
        found = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return AnchorState(**{**found, "suppressed": tuple(found["suppressed"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            "What is known of the workspace from before cannot be read.",
            f"{folder / STATE}: {type(error).__name__}",
            f"Restore the file from a backup of the folder with the keys (or the one that {VARIABLE} names).",
        ) from error


def check(workspace: Workspace) -> None:
    """Raise an error if the workspace is older than its anchor.

    Raises:
        InputError: If a backup was restored, or a restoration was not finished.
    """
    if _accepted.get():
        return
    if (workspace.root / MARKER).exists():
        raise InputError(
            "This workspace was restored from a backup, and not everything is erased again yet.",
            "",
            "Go on with: expunge restored",
        )
    if (reason := why_outdated(workspace)) is not None:
        rows = restored_rows(workspace)
        people = len({value for kind, _, value in rows if kind == "subject"})
        samples = len([0 for kind, _, _ in rows if kind == "sample"])
        raise InputError(
            "This workspace was restored from a backup: it is older than what was done with it.",
            f"{reason} Of what was erased, {people} subjects and {samples} samples are in its catalog again.",
            NEXT,
        )


def why_outdated(workspace: Workspace) -> str | None:
    """Return why the workspace is older than its anchor; None if it equals or continues the stored state."""
    stored = load_state(workspace)
    if stored is None:
        return None
    path = workspace.root / "log" / log.ENTRIES
    size = path.stat().st_size if path.exists() else 0
    if size != stored.log_bytes or not _is_head(workspace, stored):
        lines = log.sound_lines(workspace)
        if len(lines) < stored.size:
            return f"Its log has {len(lines)} entries; {stored.size} were signed, the last of {stored.time}."
        if merkle.tree_hash(lines[: stored.size]).hex() != stored.root:
            return (
                f"Its log is not a continuation of the {stored.size} entries that were signed at"
                f" {stored.time}."
            )
    if _last_event(workspace) < stored.last_event:
        return f"Its catalog lacks events that were recorded until {stored.time}."
    return None


def save_state(workspace: Workspace, size: int, root: str, time: str) -> None:
    """Store the state of the workspace in its anchor, after entries were appended to the log.

    Args:
        workspace: The workspace.
        size: Number of log entries.
        root: Root of their Merkle tree, hex.
        time: Time of the signature, ISO 8601.

    Raises:
        StorageError: If the folder cannot be written.
    """
    folder = folder_of(workspace)
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The newest tree head cannot be kept in {folder}.",
            error.strerror or type(error).__name__,
            f"Name another folder outside of the workspace with {VARIABLE}.",
        ) from error
    suppressed = _keep_suppression(workspace, folder, load_state(workspace))
    state = {
        "size": size,
        "root": root,
        "time": time,
        "log_bytes": (workspace.root / "log" / log.ENTRIES).stat().st_size,
        "last_event": _last_event(workspace),
        "suppressed": suppressed,
    }
    write_atomically(folder / STATE, (json.dumps(state) + "\n").encode(), "What is kept of the log")


def update_suppression(workspace: Workspace) -> None:
    """Update the anchor's suppression list after a new consent, which changes the catalog but not the log."""
    folder, stored = folder_of(workspace), load_state(workspace)
    if folder is not None and stored is not None:
        state = {**asdict(stored), "suppressed": _keep_suppression(workspace, folder, stored)}
        write_atomically(folder / STATE, (json.dumps(state) + "\n").encode(), "What is kept of the log")


def restored_rows(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Return the subjects and samples in the catalog that the anchor's suppression list says were erased.

    Returns:
        ``(kind, dataset, value)`` with subject ids and sample paths: personal data, for the owner only.
    """
    from expunge.catalog.versions import iter_samples, list_datasets
    from expunge.storage.keyed_digests import suppression_mac

    macs = {mac for _, mac, _ in suppression(workspace)}
    found: set[tuple[str, str, str]] = set()
    if not macs:
        return []
    with workspace.session() as session:
        for version in list_datasets(session):
            for sample in iter_samples(session, version, without_erased=True):
                values = [("sample", "sample", sample.path), ("image", "sample", sample.path)]
                values += [("subject", "subject", who) for who in sample.subjects]
                for kind, as_kind, value in values:
                    hashed = sample.image_digest if kind == "image" else value
                    if suppression_mac(workspace.key, kind, version.name, hashed) in macs:
                        found.add((as_kind, version.name, value))
    return sorted(found)


def suppression(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Return the anchor's suppression list: kind, keyed digest, request id."""
    folder = folder_of(workspace)
    try:
        lines = (folder / SUPPRESSION).read_text(encoding="ascii").splitlines() if folder else []
    except FileNotFoundError:
        return []
    return [(parts[0], parts[1], parts[2]) for line in lines if len(parts := line.split(" ")) == 3]


@contextmanager
def restoring() -> Iterator[None]:
    """Allow changes to a restored workspace, only for the code that erases restored people again."""
    token = _accepted.set(True)
    try:
        yield
    finally:
        _accepted.reset(token)


def _is_head(workspace: Workspace, stored: AnchorState) -> bool:
    try:
        head = log.parse_head((workspace.root / "log" / log.HEAD).read_bytes())
    except (OSError, ValueError):
        return False
    return (head.size, head.root) == (stored.size, stored.root)


def _last_event(workspace: Workspace) -> int:
    from sqlalchemy import func, select

    from expunge.catalog.tables import RequestEventRow

    with workspace.session() as session:
        return session.scalar(select(func.max(RequestEventRow.id))) or 0


def _keep_suppression(workspace: Workspace, folder: Path, before: AnchorState | None) -> Sequence[int]:
    """Copy the catalog's suppression list to the anchor: append new rows, or rewrite it after a consent."""
    from sqlalchemy import func, select

    from expunge.catalog.tables import SuppressionRow

    count, last = before.suppressed if before is not None else (0, 0)
    with workspace.session() as session:
        now = session.execute(select(func.count(), func.max(SuppressionRow.id))).one()
        query = select(SuppressionRow.kind, SuppressionRow.mac, SuppressionRow.request_id)
        query = query.order_by(SuppressionRow.id)
        new_rows: Sequence[Any] = session.execute(query.where(SuppressionRow.id > last)).all()
        only_added = count + len(new_rows) == now[0]
        rows = new_rows if only_added else session.execute(query).all()
    lines = "".join(f"{kind} {mac} {request}\n" for kind, mac, request in rows).encode("ascii")
    path = folder / SUPPRESSION
    if only_added and count and path.is_file():
        lines = path.read_bytes() + lines
    if rows or not only_added:
        write_atomically(path, lines, "What is kept of the suppression list")
    return [now[0], now[1] or 0]
