# SPDX-License-Identifier: Apache-2.0
"""The access log: who read or changed what at the desk.

Changes are written before the response. Reads are written in batches within a second or two, so that pages do
not wait for the disk or for another writer of the catalog. After a power failure, the reads of the last
second may be missing, but no change.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from expunge.catalog.desk_tables import TrailRow
from expunge.errors import ExpungeError
from expunge.web.auth import sessions

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class AccessEntry:
    """An entry: one read or change. ``object``: id of a request, model, dataset or job, or None."""

    at: datetime
    account: str
    via: str
    method: str
    route: str
    object: str | None
    status: int


class AccessLog:
    """The access log of one server.

    Args:
        workspace: The workspace whose catalog stores the log.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._seen: deque[AccessEntry] = deque()
        self._used: dict[str, datetime] = {}  # time of last use, by digest of the session
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that writes reads in batches."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._work, name="trail", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write all pending entries."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def did(self, entry: AccessEntry) -> None:
        """Record a change immediately."""
        self._write([entry], {})

    def saw(self, entry: AccessEntry) -> None:
        """Record a read with the next batch, or immediately if the thread is not running."""
        self._seen.append(entry)
        if self._thread is None:
            self.flush()

    def used(self, digest: str) -> None:
        """Record the time of a session's last use with the next batch."""
        self._used[digest] = self._workspace.clock()
        if self._thread is None:
            self.flush()

    def flush(self) -> None:
        """Write all pending entries and session uses."""
        with self._lock:
            pending, used = list(self._seen), dict(self._used)
            if pending or used:
                self._write(pending, used)
            for _ in pending:
                self._seen.popleft()
            for digest, at in used.items():
                if self._used.get(digest) == at:
                    del self._used[digest]

    def page(self, limit: int, before: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
        """Return entries, newest first, and the start of the next page.

        Args:
            limit: Largest number of entries.
            before: Only entries older than this id.
        """
        self.flush()
        query = select(TrailRow).order_by(TrailRow.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(TrailRow.id < before)
        with self._workspace.session() as session:
            rows = session.scalars(query).all()
            found = [
                {
                    "at": row.at.isoformat(timespec="seconds"),
                    "account": row.account,
                    "via": row.via,
                    "method": row.method,
                    "route": row.route,
                    "object": row.object,
                    "status": row.status,
                }
                for row in rows[:limit]
            ]
            return found, rows[limit - 1].id if len(rows) > limit else None

    def _write(self, entries: list[AccessEntry], used: Mapping[str, datetime]) -> None:
        with self._workspace.session(write=True) as session:
            if entries:
                session.execute(insert(TrailRow), [vars(entry) for entry in entries])
            for digest, at in used.items():
                sessions.used(session, digest, at)

    def _work(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self.flush()
            except ExpungeError:
                continue  # the disk refuses: the entries stay pending
