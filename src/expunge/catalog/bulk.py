# SPDX-License-Identifier: Apache-2.0
"""Inserts very many rows: SQLAlchemy would take longer to prepare each than the database to store it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, insert, text
from sqlalchemy.orm import Session

CACHE_KIB = 1 << 16


def give_room(session: Session) -> None:
    """Let SQLite keep more pages on this connection: with 2 MiB it writes large indices again and again."""
    if session.connection().dialect.name == "sqlite":
        session.execute(text(f"PRAGMA cache_size = -{CACHE_KIB}"))


def insert_rows(
    session: Session, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows as they are: values go to the database's driver without any conversion.

    Args:
        session: A session on the catalog.
        table: Where to.
        columns: Names in the table's order; numbers, text, bytes and truth values only. The others are NULL.
        rows: Values in the order of the columns.
    """
    if not rows:
        return
    connection = session.connection()
    statement = insert(table).compile(dialect=connection.dialect, column_keys=list(columns))
    if statement.positiontup != list(columns):
        raise ValueError("columns must be given in the table's order")
    connection.exec_driver_sql(str(statement), list(rows))
