# SPDX-License-Identifier: Apache-2.0
"""Opens the catalog: SQLite in WAL mode, brought to the newest revision where it is older."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from expunge.errors import InputError, StorageError

HEAD = "0003"  # the newest revision under migrations/versions
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 30_000
REFUSALS = {
    sqlite3.SQLITE_FULL: "The disk is full.",
    sqlite3.SQLITE_READONLY: "It may not be written to.",
    sqlite3.SQLITE_IOERR: "The disk reports an error.",
    sqlite3.SQLITE_CANTOPEN: "It cannot be opened.",
    sqlite3.SQLITE_CORRUPT: "It is damaged.",
    sqlite3.SQLITE_NOTADB: "It is damaged.",
    sqlite3.SQLITE_BUSY: f"Another process has been writing to it for {BUSY_TIMEOUT_MS // 1000} seconds.",
}


def open_engine(database: str | Path) -> Engine:
    """Open the catalog, create it where it is missing, and migrate it where it is old.

    Reads see the last committed state and never wait. A transaction takes the write lock with its first
    change, or at once through ``begin_write``; it waits for another writer up to the busy timeout.

    Args:
        database: Path of the SQLite file, or an SQLAlchemy URL of one.
    """
    url = str(database) if "://" in str(database) else f"sqlite:///{database}"
    engine = create_engine(url, connect_args={"isolation_level": "IMMEDIATE"})
    event.listen(engine, "connect", _set_pragmas)
    try:
        with engine.connect() as connection:
            if stored_revision(connection) != HEAD:
                migrate(connection)
    except DatabaseError as error:
        engine.dispose()
        raise StorageError(
            "The catalog cannot be opened.",
            str(error.orig),
            "Check that the workspace is on a local disk with free space, that you may write to it, and that"
            " its catalog is whole.",
        ) from error
    return engine


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn a refusal of the disk under the catalog into an error for people; the transaction is undone."""
    try:
        yield
    except DatabaseError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code not in REFUSALS:
            raise
        raise StorageError(
            "The catalog could not be read or written.",
            REFUSALS[code],
            "See to it, then run the command again: what was not finished is undone, nothing was lost.",
        ) from error


def begin_write(session: Session) -> None:
    """Take the write lock now, so that what is read next is still true when it is changed."""
    connection = session.connection()
    driver: Any = connection.connection.dbapi_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the database, or None where it is empty."""
    tables = connection.execute(text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'"))
    if tables.first() is None:
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def migrate(connection: Connection) -> None:
    """Bring the database to ``HEAD`` in one transaction; two processes that start together take turns."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    connection.rollback()
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        stored = stored_revision(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if stored is not None and stored not in known:
            raise InputError(
                "The workspace was made by a newer version of expunge.",
                f"Its catalog has revision {stored}; this version knows revisions up to {HEAD}.",
                "Install the newer version.",
            )
        if stored != HEAD:
            command.upgrade(config, HEAD)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _set_pragmas(driver: Any, _record: Any) -> None:
    cursor = driver.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
