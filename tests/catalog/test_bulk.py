# SPDX-License-Identifier: Apache-2.0
"""Bulk inserts store the same rows as SQLAlchemy's own insert."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from sqlalchemy import Table, insert

from expunge.catalog.bulk import CACHE_KIB, insert_rows
from expunge.catalog.tables import SampleRow
from expunge.data.types import Sample, Scan
from expunge.workspace import Workspace

TABLE = cast(Table, SampleRow.__table__)
ROW = (8, 1, "train/ü 'x'", "train", "0" * 64, "", None, True, 1, b"\0salt")
COLUMNS = (
    "id", "dataset_id", "path", "split", "image_digest", "label_digest", "class_name", "public", "arrived",
    "salt",
)  # fmt: skip


def test_rows_equal_an_ordinary_insert(
    workspace: Workspace, scan: Callable[..., Scan], sample: Callable[..., Sample]
) -> None:
    from expunge.catalog.dataset_store import add_version

    with workspace.session() as session:
        add_version(session, "d", scan([sample("train/a", "p")]), key=workspace.key)
    with workspace.session(write=True) as session:
        insert_rows(session, TABLE, COLUMNS, [])
        insert_rows(session, TABLE, COLUMNS, [ROW])
        session.execute(insert(TABLE), [dict(zip(COLUMNS, (9, *ROW[1:]), strict=True))])
    bulk, ordinary = workspace.query("SELECT * FROM sample WHERE id > 7 ORDER BY id")
    assert {**bulk, "id": 9} == dict(ordinary)
    assert bulk["removed"] is None
    assert bulk["path"] == ROW[2]


def test_wrong_column_order_is_refused(workspace: Workspace) -> None:
    with workspace.session(write=True) as session, pytest.raises(ValueError, match="order"):
        insert_rows(session, TABLE, COLUMNS[::-1], [ROW[::-1]])
    assert workspace.query("SELECT * FROM sample") == []


def test_only_large_datasets_enlarge_the_cache(
    workspace: Workspace,
    scan: Callable[..., Scan],
    sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from expunge.catalog import ingest

    for rows, room in ((2, False), (3, True)):
        monkeypatch.setattr(ingest, "BATCH", 2)
        found = scan([sample(f"train/{i}", "p") for i in range(rows)])
        with workspace.session(write=True) as session:
            ingest.add_version(session, f"d{rows}", found, key=workspace.key)
            pages = session.connection().exec_driver_sql("PRAGMA cache_size").scalar()
        assert (pages == -CACHE_KIB) is room
