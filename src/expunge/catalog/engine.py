# SPDX-License-Identifier: Apache-2.0
"""Opens the catalog, SQLite in WAL mode or PostgreSQL, and brings it to the newest revision."""

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
EVENTS = "events"  # in the ``info`` of a session in which something happened to a request
BUSY_TIMEOUT_MS = 30_000
MIGRATION_LOCK = 0x45585055  # any number that no other program locks
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
    """Open the catalog, create it where it is missing, and migrate it where it is old.

    Reads see the last committed state and never wait. A transaction takes the write lock with its first
    change, or at once through ``begin_write``; it waits for another writer up to the busy timeout.

    Args:
        database: Path of the SQLite file, or an SQLAlchemy URL of one, or of a PostgreSQL database.

    Raises:
        StorageError: If it cannot be opened.
        InputError: If a newer version of expunge made it, or no driver for it is installed.
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
                connection.execution_options(isolation_level="READ COMMITTED")  # see what others just made
                _check_collation(connection)
            if stored_revision(connection) != HEAD:
                migrate(connection)
    except DBAPIError as error:
        engine.dispose()
        raise StorageError(
            "The catalog cannot be opened.",
            str(error.orig) if engine.dialect.name == "sqlite" else _why_not(error),
            "Check that the workspace is on a local disk with free space, that you may write to it, and that"
            " its catalog is whole.",
        ) from error
    return engine


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn a refusal of the disk under the catalog into an error for people; the transaction is undone."""
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
            "See to it, then run the command again: what was not finished is undone, nothing was lost.",
        ) from error


def begin_write(session: Session) -> None:
    """Take the write lock now, so that what is read next is still true when it is changed."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        # A lock that no reader minds; taken before anything is read, it comes before the snapshot.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.exec_driver_sql("LOCK TABLE alembic_version IN EXCLUSIVE MODE")
        return
    driver: Any = connection.connection.dbapi_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the database, or None where it is empty."""
    if not inspect(connection).has_table("alembic_version"):
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
    """An engine whose transactions each see one state, as SQLite's do."""
    try:
        return create_engine(url, isolation_level="REPEATABLE READ", pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise InputError(
            "PostgreSQL cannot be spoken to.",
            f"The package {error.name} is not installed.",
            "Install expunge[postgres], and use a URL that begins with postgresql+pg8000://",
        ) from error


def _check_collation(connection: Connection) -> None:
    """Digests of versions depend on the order of paths, which must be that of their bytes."""
    query = text("SELECT datcollate FROM pg_database WHERE datname = current_database()")
    collation = str(connection.execute(query).scalar())
    if collation.upper().replace("-", "") not in ("C", "POSIX", "C.UTF8"):
        raise StorageError(
            "The catalog's database sorts by the rules of a language.",
            f"Its collation is {collation}; digests need the order of bytes.",
            "Create it with: createdb --template=template0 --lc-collate=C NAME",
        )


def _postgres_refusal(error: DBAPIError) -> str | None:
    """The reason for people, if this is one of the server's refusals."""
    told = error.orig.args[0] if error.orig and error.orig.args else None
    if isinstance(told, dict):  # pg8000's form of the server's message
        code = str(told.get("C", ""))
        return POSTGRES_REFUSALS.get(code) or POSTGRES_REFUSALS.get(code[:2])
    return POSTGRES_REFUSALS["08"] if error.connection_invalidated else None


def _why_not(error: DBAPIError) -> str:
    """Why a server refuses; never the URL, in which a password may stand."""
    told = error.orig.args[0] if error.orig and error.orig.args else ""
    return str(told.get("M", "")) if isinstance(told, dict) else str(told)


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
