# SPDX-License-Identifier: Apache-2.0
"""Who saw and did what at the desk. What was done is written before it is answered, what was seen soon after.

A view is written within a second or two, many at once: a page must not wait for the disk, or for whoever
writes to the catalog at that moment. If the machine loses power, the last second of views is lost, and
nothing that was done.
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
from expunge.web import sessions

if TYPE_CHECKING:
    from expunge.workspace import Workspace

FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """One view or deed; ``object`` is the id of a request, model, dataset or job, or None."""

    at: datetime
    account: str
    via: str
    method: str
    route: str
    object: str | None
    status: int


class Trail:
    """Writes entries of one server.

    Args:
        workspace: Where to.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._seen: deque[Entry] = deque()
        self._used: dict[str, datetime] = {}  # sessions, by digest
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write views now and then."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._work, name="trail", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def did(self, entry: Entry) -> None:
        """Write now what was done."""
        self._write([entry], {})

    def saw(self, entry: Entry) -> None:
        """Write soon what was seen; at once where the server does not run yet."""
        self._seen.append(entry)
        if self._thread is None:
            self.flush()

    def used(self, digest: str) -> None:
        """Write soon when a session was used last."""
        self._used[digest] = self._workspace.clock()
        if self._thread is None:
            self.flush()

    def flush(self) -> None:
        """Write what was seen, and which sessions were used."""
        with self._lock:
            waiting, used = list(self._seen), dict(self._used)
            if waiting or used:
                self._write(waiting, used)
            for _ in waiting:
                self._seen.popleft()
            for digest, at in used.items():
                if self._used.get(digest) == at:
                    del self._used[digest]

    def page(self, limit: int, before: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
        """Return entries, the newest first, and where the next page begins.

        Args:
            limit: How many.
            before: Only entries before this one.
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

    def _write(self, entries: list[Entry], used: Mapping[str, datetime]) -> None:
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
                continue  # the disk refuses: the entries stay, and are tried again
