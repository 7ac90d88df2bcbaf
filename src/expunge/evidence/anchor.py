# SPDX-License-Identifier: Apache-2.0
"""What is kept outside of a workspace, so that a restored backup cannot hide what was done since.

A backup brings back an old catalog, in which people are who were erased later, and an old log that goes well
with it: from within nothing is wrong. So a folder beside the keys keeps for each workspace its newest tree
head, the number of the last event, and its suppression list (keyed digests, as in the catalog). Whatever
trains, publishes or writes to the log compares first. A workspace is known by its suppression secret, which
every backup has, wherever it is restored to.
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
from expunge.evidence import merkle
from expunge.evidence.pins import keys_folder
from expunge.exact.checkpoint import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace

VARIABLE = "EXPUNGE_ANCHORS"
NONE = "none"  # for workspaces that are thrown away: then no backup is recognised
STATE, SUPPRESSION = "state.json", "suppression.txt"
MARKER = "restored.unfinished"  # in the workspace: who came back with it is not erased again yet
NEXT = (
    "Restore the newest backup, catalog and log together. If what came later is lost for good, let it be"
    " erased again: expunge restored"
)
_accepted: ContextVar[bool] = ContextVar("accepted", default=False)


@dataclass(frozen=True)
class Known:
    """What is known of a workspace: its newest signed head, and how far its catalog was.

    Attributes:
        size: Entries of the log.
        root: Root of their tree, hex.
        time: When that was signed.
        log_bytes: Size of the log's file.
        last_event: Id of the newest event in the catalog.
        suppressed: Number of entries of the suppression list, and the id of the last.
    """

    size: int
    root: str
    time: str
    log_bytes: int
    last_event: int
    suppressed: tuple[int, int]


def folder_of(workspace: Workspace) -> Path | None:
    """Where the workspace's anchor lies: below EXPUNGE_ANCHORS, or beside the keys; None: none is kept."""
    named = os.environ.get(VARIABLE)
    if named == NONE:
        return None
    above = Path(os.path.abspath(named)) if named else keys_folder() / "anchors"
    return above / hmac.digest(workspace.key, b"expunge anchor", "sha256").hex()[:32]


def known(workspace: Workspace) -> Known | None:
    """Return what is known of a workspace; None where nothing is.

    Raises:
        InputError: If it cannot be read: it is no quiet default that nothing is known.
    """
    folder = folder_of(workspace)
    if folder is None:
        return None
    try:
        found = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return Known(**{**found, "suppressed": tuple(found["suppressed"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            "What is known of the workspace from before cannot be read.",
            f"{folder / STATE}: {type(error).__name__}",
            f"Restore the file from a backup of the folder with the keys (or the one that {VARIABLE} names).",
        ) from error


def check(workspace: Workspace) -> None:
    """Raise an error if the workspace is older than what is known of it.

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
    if (reason := behind(workspace)) is not None:
        back = returned(workspace)
        people = len({who for kind, _, who in back if kind == "subject"})
        samples = len([0 for kind, _, _ in back if kind == "sample"])
        raise InputError(
            "This workspace was restored from a backup: it is older than what was done with it.",
            f"{reason} Of what was erased, {people} subjects and {samples} samples are in its catalog again.",
            NEXT,
        )


def behind(workspace: Workspace) -> str | None:
    """Return why the workspace is not what it was last, or None if it is that or a continuation of it."""
    from expunge.evidence import log

    at = known(workspace)
    if at is None:
        return None
    path = workspace.root / "log" / log.ENTRIES
    size = path.stat().st_size if path.exists() else 0
    if size != at.log_bytes or not _is_head(workspace, at):
        lines = log.sound_lines(workspace)
        if len(lines) < at.size:
            return f"Its log has {len(lines)} entries; {at.size} were signed, the last of {at.time}."
        if merkle.tree_hash(lines[: at.size]).hex() != at.root:
            return f"Its log is not a continuation of the {at.size} entries that were signed at {at.time}."
    if _last_event(workspace) < at.last_event:
        return f"Its catalog lacks events that were recorded until {at.time}."
    return None


def keep(workspace: Workspace, size: int, root: str, time: str) -> None:
    """Remember, outside of the workspace, how far it is: called when its log was continued.

    Raises:
        StorageError: If the folder cannot be written.
    """
    folder = folder_of(workspace)
    if folder is None:
        return
    from expunge.evidence import log

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The newest tree head cannot be kept in {folder}.",
            error.strerror or type(error).__name__,
            f"Name another folder outside of the workspace with {VARIABLE}.",
        ) from error
    suppressed = _keep_suppression(workspace, folder, known(workspace))
    state = {
        "size": size,
        "root": root,
        "time": time,
        "log_bytes": (workspace.root / "log" / log.ENTRIES).stat().st_size,
        "last_event": _last_event(workspace),
        "suppressed": suppressed,
    }
    write_atomically(folder / STATE, (json.dumps(state) + "\n").encode(), "What is kept of the log")


def follow(workspace: Workspace) -> None:
    """Bring the list outside up to date where the catalog's changed and the log did not: after a consent."""
    folder, at = folder_of(workspace), known(workspace)
    if folder is not None and at is not None:
        state = {**asdict(at), "suppressed": _keep_suppression(workspace, folder, at)}
        write_atomically(folder / STATE, (json.dumps(state) + "\n").encode(), "What is kept of the log")


def returned(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Return what is in the catalog again though the list outside says that it was erased.

    Returns:
        ``(kind, dataset, value)``: subjects' ids and samples' paths, for the workspace's owner alone.
    """
    from expunge.catalog.macs import suppression_mac
    from expunge.catalog.versions import iter_samples, list_datasets

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
    """Return the list outside: kind, keyed digest, request."""
    folder = folder_of(workspace)
    try:
        lines = (folder / SUPPRESSION).read_text(encoding="ascii").splitlines() if folder else []
    except FileNotFoundError:
        return []
    return [(parts[0], parts[1], parts[2]) for line in lines if len(parts := line.split(" ")) == 3]


@contextmanager
def restoring() -> Iterator[None]:
    """Let the workspace be changed although it is older: only for what brings it up to date."""
    token = _accepted.set(True)
    try:
        yield
    finally:
        _accepted.reset(token)


def _is_head(workspace: Workspace, at: Known) -> bool:
    from expunge.evidence import log

    try:
        head = log.parse_head((workspace.root / "log" / log.HEAD).read_bytes())
    except (OSError, ValueError):
        return False
    return (head.size, head.root) == (at.size, at.root)


def _last_event(workspace: Workspace) -> int:
    from sqlalchemy import func, select

    from expunge.catalog.tables import RequestEventRow

    with workspace.session() as session:
        return session.scalar(select(func.max(RequestEventRow.id))) or 0


def _keep_suppression(workspace: Workspace, folder: Path, before: Known | None) -> Sequence[int]:
    """Bring the list outside up to the catalog's: add what is new; after a new consent write it anew."""
    from sqlalchemy import func, select

    from expunge.catalog.tables import SuppressionRow

    count, last = before.suppressed if before is not None else (0, 0)
    with workspace.session() as session:
        now = session.execute(select(func.count(), func.max(SuppressionRow.id))).one()
        query = select(SuppressionRow.kind, SuppressionRow.mac, SuppressionRow.request_id)
        query = query.order_by(SuppressionRow.id)
        fresh: Sequence[Any] = session.execute(query.where(SuppressionRow.id > last)).all()
        added = count + len(fresh) == now[0]
        rows = fresh if added else session.execute(query).all()
    lines = "".join(f"{kind} {mac} {request}\n" for kind, mac, request in rows).encode("ascii")
    path = folder / SUPPRESSION
    if added and count and path.is_file():
        lines = path.read_bytes() + lines
    if rows or not added:
        write_atomically(path, lines, "What is kept of the suppression list")
    return [now[0], now[1] or 0]
