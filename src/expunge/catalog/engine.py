# SPDX-License-Identifier: Apache-2.0
"""Open the catalog database (SQLite in WAL mode, or PostgreSQL) and migrate it to the newest revision."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.orm import Session

from expunge.errors import InputError, StorageError

HEAD = "0010"  # the newest revision under migrations/versions
MIGRATIONS = Path(__file__).parent / "migrations"
EVENTS = "events"  # key in the ``info`` of a session that recorded a request event
BUSY_TIMEOUT_MS = 30_000
MIGRATION_LOCK = 0x45585055  # arbitrary id of an advisory lock
REFUSALS = {
    sqlite3.SQLITE_FULL: "The disk is full.",
    sqlite3.SQLITE_READONLY: "It may not be written to.",
    sqlite3.SQLITE_IOERR: "The disk reports an error.",
    sqlite3.SQLITE_CANTOPEN: "It cannot be opened.",
    sqlite3.SQLITE_CORRUPT: "It is damaged.",
    sqlite3.SQLITE_NOTADB: "It is damaged.",
    sqlite3.SQLITE_BUSY: f"Another process has been writing to it for {BUSY_TIMEOUT_MS // 1000} seconds.",
}
POSTGRES_REFUSALS = {  # by the class or the whole of an SQLSTATE
    "53": "The server has no space, memory or connections left.",
    "55P03": REFUSALS[sqlite3.SQLITE_BUSY],
    "40": "Another process changed the same at the same moment.",
    "57": "The server was stopped.",
    "08": "The server cannot be reached.",
}


def open_engine(database: str | Path) -> Engine:
    """Return an engine for the catalog; create the database if it is missing, and migrate it if it is old.

    Reads see the last committed state and never wait. A transaction takes the write lock with its first
    change, or earlier through ``begin_write``. It waits for another writer up to the busy timeout.

    Args:
        database: Path of an SQLite file, or an SQLAlchemy URL of an SQLite file or PostgreSQL database.

    Raises:
        StorageError: If the database cannot be opened.
        InputError: If a newer version of expunge made it, or its driver is not installed.
    """
    url = str(database) if "://" in str(database) else f"sqlite:///{database}"
    if url.startswith("postgresql"):
        engine = _postgres(url)
    else:
        engine = create_engine(url, connect_args={"isolation_level": "IMMEDIATE"})
        event.listen(engine, "connect", _set_pragmas)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="READ COMMITTED")  # see concurrent migrations
                _check_collation(connection)
            if stored_revision(connection) != HEAD:
                migrate(connection)
    except DBAPIError as error:
        engine.dispose()
        raise StorageError(
            "The catalog cannot be opened.",
            str(error.orig) if engine.dialect.name == "sqlite" else _server_message(error),
            "Check that the workspace is on a local disk with free space, that you may write to it, and that"
            " its catalog is not damaged.",
        ) from error
    return engine


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn a database error with a known cause into a :class:`StorageError`."""
    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        reason = REFUSALS.get(code) if isinstance(error, DatabaseError) else None
        reason = reason or _postgres_refusal(error)
        if reason is None:
            raise
        raise StorageError(
            "The catalog could not be read or written.",
            reason,
            "Remove the cause, then run the command again. Unfinished changes were undone; nothing was lost.",
        ) from error


def begin_write(session: Session) -> None:
    """Take the write lock now, so that data read next cannot change before it is written."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        # The lock does not block readers. It must be taken before the first read, which fixes the snapshot.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.exec_driver_sql("LOCK TABLE alembic_version IN EXCLUSIVE MODE")
        return
    driver: Any = connection.connection.dbapi_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def stored_revision(connection: Connection) -> str | None:
    """Return the schema revision of the database, or None if the database is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def migrate(connection: Connection) -> None:
    """Migrate the database to ``HEAD`` in one transaction, under a lock against concurrent migrations.

    Raises:
        InputError: If a newer version of expunge made the database.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    connection.rollback()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    else:
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


def _postgres(url: str) -> Engine:
    """Return an engine whose transactions each see one snapshot, as in SQLite."""
    try:
        return create_engine(url, isolation_level="REPEATABLE READ", pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise InputError(
            "PostgreSQL cannot be used.",
            f"The package {error.name} is not installed.",
            "Install expunge[postgres], and use a URL that begins with postgresql+pg8000://",
        ) from error


def _check_collation(connection: Connection) -> None:
    """Check that the database sorts text by bytes, because version digests depend on the order of paths."""
    query = text("SELECT datcollate FROM pg_database WHERE datname = current_database()")
    collation = str(connection.execute(query).scalar())
    if collation.upper().replace("-", "") not in ("C", "POSIX", "C.UTF8"):
        raise StorageError(
            "The catalog's database sorts by the rules of a language.",
            f"Its collation is {collation}; digests need the order of bytes.",
            "Create it with: createdb --template=template0 --lc-collate=C NAME",
        )


def _postgres_refusal(error: DBAPIError) -> str | None:
    """Return the reason for a known server error, or None."""
    message = error.orig.args[0] if error.orig and error.orig.args else None
    if isinstance(message, dict):  # pg8000's form of the server's message
        code = str(message.get("C", ""))
        return POSTGRES_REFUSALS.get(code) or POSTGRES_REFUSALS.get(code[:2])
    return POSTGRES_REFUSALS["08"] if error.connection_invalidated else None


def _server_message(error: DBAPIError) -> str:
    """Return the server's message, without the URL, which may hold a password."""
    message = error.orig.args[0] if error.orig and error.orig.args else ""
    return str(message.get("M", "")) if isinstance(message, dict) else str(message)


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
