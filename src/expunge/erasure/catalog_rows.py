# SPDX-License-Identifier: Apache-2.0
"""Lets the catalog forget: replaces rows of erased samples by opaque leaves and overwrites the deleted bytes.

Copies that a disk keeps below the file system, and backups, are out of reach.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Engine, NullPool, Table, create_engine, delete, insert, select, update
from sqlalchemy.orm import Session

from expunge.catalog.bulk import in_chunks
from expunge.catalog.commitments import commitment, ensure_salts, salts_of
from expunge.catalog.engine import REFUSALS, catalog_errors
from expunge.catalog.model_store import newest_versions
from expunge.catalog.request_store import forget_recipients
from expunge.catalog.tables import (
    Base,
    ModelRow,
    ModelVersionRow,
    OpaqueLeaf,
    RequestRow,
    SampleRow,
    SampleSubjectRow,
    SubjectRow,
    VersionRow,
)
from expunge.catalog.versions import iter_rows
from expunge.errors import BusyError, StorageError

if TYPE_CHECKING:
    from expunge.workspace import Workspace

MARKER = "catalog.scrub"  # exists while deleted data waits to be overwritten
KEPT = ("samples", "subjects", "models", "defer", "settings")  # keys of a selection without personal data
PATIENCE_SECONDS = 30.0


def forget_rows(workspace: Workspace, request_id: str) -> int:
    """Replace the rows that a request erased by opaque leaves, in one transaction; return their number.

    :func:`scrub` must follow. If the process dies in between, the marker lets a later one call it.
    """
    mark_for_scrub(workspace)
    with workspace.session(write=True) as session:
        request = session.get_one(RequestRow, request_id)
        request.selection = {k: v for k, v in request.selection.items() if k in KEPT}
        request.note = request.key_mac = request.body_mac = None
        forget_recipients(request, workspace.key)
        erased = (SampleRow.request_id == request_id) & (SampleRow.removal == "erased")
        dataset_id = request.dataset_id
        ensure_salts(session, dataset_id)
        spans = {
            row: (arrived, int(removed or 0))
            for row, arrived, removed in session.execute(
                select(SampleRow.id, SampleRow.arrived, SampleRow.removed).where(erased)
            )
        }
        if not spans:
            return 0
        salts = salts_of(session, spans)
        leaves: list[dict[str, Any]] = [
            {
                "dataset_id": dataset_id,
                "request_id": request_id,
                "leaf": commitment(salts[row], sample),
                "arrived": spans[row][0],
                "removed": spans[row][1],
            }
            for row, sample in iter_rows(session, erased)
        ]
        leaves.sort(key=lambda leaf: leaf["leaf"])  # so that the order does not reveal the order of paths
        session.execute(insert(cast(Table, OpaqueLeaf.__table__)), leaves)
        _delete(session, SampleRow.__table__, sorted(spans))
        _drop_subjects_without_samples(session, dataset_id)
        _blank_digests(session, dataset_id, set(spans.values()))
        return len(spans)


def mark_for_scrub(workspace: Workspace) -> None:
    """Create the marker that tells a later process to overwrite deleted data."""
    (workspace.root / MARKER).touch(mode=0o600)


def scrub(workspace: Workspace) -> None:
    """Overwrite deleted data: rewrite the database and empty the write-ahead log, if the marker exists.

    In PostgreSQL the tables are rewritten; other copies that the server keeps are out of reach.

    Raises:
        BusyError: If another process kept reading the database.
        StorageError: If the disk cannot be written.
    """
    marker = workspace.root / MARKER
    if not marker.exists():
        return
    with workspace.session() as session:
        engine = session.get_bind().engine
    if engine.dialect.name == "postgresql":
        _scrub_postgres(engine)
        marker.unlink(missing_ok=True)
        return
    try:
        with closing(
            sqlite3.connect(workspace.catalog, timeout=PATIENCE_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("VACUUM")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageError(
                "What was deleted from the catalog could not be overwritten.",
                str(error),
                "Free some space, then run the command again: the request is closed when it is done.",
            ) from error
        busy = 1
    if busy:
        raise _busy()
    marker.unlink(missing_ok=True)


def try_scrub(workspace: Workspace) -> None:
    """Overwrite deleted data; if another process reads the catalog, leave the marker for a later command."""
    with suppress(BusyError):
        scrub(workspace)


def _scrub_postgres(engine: Engine) -> None:
    """Rewrite all tables and the planner's statistics without the deleted rows.

    The server unlinks the old files and does not overwrite them. Its write-ahead log holds the rows until it
    is recycled, and so do archives of it, replicas and backups: they are out of reach.
    """
    # VACUUM needs a connection outside a transaction, which connections of the pool are not (pre-ping).
    alone = create_engine(engine.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        with catalog_errors(), alone.connect() as connection:
            connection.exec_driver_sql(f"SET lock_timeout = {int(PATIENCE_SECONDS * 1000)}")
            for table in (*(t.name for t in Base.metadata.sorted_tables), "pg_catalog.pg_statistic"):
                analyze = "FULL" if "." in table else "FULL, ANALYZE"
                connection.exec_driver_sql(f"VACUUM ({analyze}) {table}")
    except StorageError as error:
        if error.why == REFUSALS[sqlite3.SQLITE_BUSY]:
            raise _busy() from error
        raise


def _busy() -> BusyError:
    return BusyError(
        "What was deleted from the catalog could not be overwritten yet.",
        "Another process has been reading the catalog all the time.",
        "Run the command again: the request is closed when it is done.",
    )


def is_scrubbed(root: Path) -> bool:
    """Return whether no deleted data waits to be overwritten."""
    return not (root / MARKER).exists()


def _delete(session: Session, table: Any, ids: Sequence[int]) -> None:
    """Delete rows by id, and first the rows of any table that refer to them."""
    for other in reversed(Base.metadata.sorted_tables):
        for column in other.columns:
            if column.references(table.c.id):
                for chunk in in_chunks(ids):
                    session.execute(delete(other).where(column.in_(chunk)))
    for chunk in in_chunks(ids):
        session.execute(delete(table).where(table.c.id.in_(chunk)))


def _drop_subjects_without_samples(session: Session, dataset_id: int) -> None:
    """Delete the subjects of a dataset that no longer have a sample."""
    present = select(SampleSubjectRow.subject_id).where(SampleSubjectRow.subject_id == SubjectRow.id).exists()
    query = select(SubjectRow.id).where(SubjectRow.dataset_id == dataset_id, ~present)
    _delete(session, SubjectRow.__table__, session.scalars(query).all())


def _blank_digests(session: Session, dataset_id: int, spans: set[tuple[int, int]]) -> None:
    """Blank the unsalted digests that cover the erased rows, which could confirm a guess of their content.

    Args:
        session: A session that holds the write lock.
        dataset_id: The dataset.
        spans: (version of arrival, version of removal) of the erased rows.
    """
    for arrived, removed in spans:
        session.execute(
            update(VersionRow)
            .where(
                VersionRow.dataset_id == dataset_id,
                VersionRow.number >= arrived,
                VersionRow.number < removed,
            )
            .values(digest="")
        )
    last = max(removed for _, removed in spans)
    for published in newest_versions(session, dataset_id):
        model = select(ModelRow.id).where(ModelRow.name == published.name).scalar_subquery()
        session.execute(
            update(ModelVersionRow)
            .where(
                ModelVersionRow.model_id == model,
                ModelVersionRow.state == "superseded",
                ModelVersionRow.dataset_id == dataset_id,
                ModelVersionRow.dataset_version < last,
                ModelVersionRow.retained_digest != published.retained_digest,
            )
            .values(retained_digest="")
        )
