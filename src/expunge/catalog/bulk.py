# SPDX-License-Identifier: Apache-2.0
"""Bulk statements that bypass SQLAlchemy's per-row cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Table, insert, text
from sqlalchemy.orm import Session

CACHE_KIB = 1 << 16
CHUNK = 500
Key = TypeVar("Key", int, str)


def enlarge_cache(session: Session) -> None:
    """Enlarge SQLite's page cache on this connection; with the default 2 MiB, large indices are rewritten."""
    if session.connection().dialect.name == "sqlite":
        session.execute(text(f"PRAGMA cache_size = -{CACHE_KIB}"))


def insert_rows(
    session: Session, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows without type conversion: values go to the database driver as they are.

    Args:
        session: A session on the catalog.
        table: The table.
        columns: Column names in the table's order; only numbers, text, bytes and booleans. Others are NULL.
        rows: Values in the order of the columns.

    Raises:
        ValueError: If the columns are not in the table's order.
    """
    if not rows:
        return
    connection = session.connection()
    statement = insert(table).compile(dialect=connection.dialect, column_keys=list(columns))
    if statement.positiontup != list(columns):
        raise ValueError("columns must be given in the table's order")
    connection.exec_driver_sql(str(statement), list(rows))


def in_chunks(values: Iterable[Key]) -> Iterator[list[Key]]:
    """Yield the values, sorted, in lists small enough for one statement."""
    pending = sorted(values)
    for start in range(0, len(pending), CHUNK):
        yield pending[start : start + CHUNK]
