# SPDX-License-Identifier: Apache-2.0
"""The database: schema, settings, migrations."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from expunge.catalog import derived_tables as derived_tables
from expunge.catalog import desk_tables as desk_tables
from expunge.catalog import engine as catalog
from expunge.catalog.tables import Base
from expunge.errors import InputError, StorageError


def test_migrations_match_the_tables(tmp_path: Path) -> None:
    engine = catalog.open_engine(tmp_path / "c.sqlite")
    with engine.connect() as connection:
        assert catalog.stored_revision(connection) == catalog.HEAD
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    config = Config()
    config.set_main_option("script_location", str(catalog.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == catalog.HEAD


def test_settings(tmp_path: Path) -> None:
    with catalog.open_engine(tmp_path / "c.sqlite").connect() as connection:
        values = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "secure_delete", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 30_000}


def test_current_catalog_opens_without_alembic(tmp_path: Path) -> None:
    catalog.open_engine(tmp_path / "c.sqlite").dispose()
    code = (
        "import sys; from expunge.catalog.engine import open_engine; import expunge.catalog.dataset_store;"
        f"open_engine({str(tmp_path / 'c.sqlite')!r});"
        "print([m for m in ('alembic', 'torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_newer_catalog_is_refused(tmp_path: Path) -> None:
    engine = catalog.open_engine(tmp_path / "c.sqlite")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match="newer version"):
        catalog.open_engine(tmp_path / "c.sqlite")


def test_interrupted_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    create = op.create_index

    def interrupted(name: str, *rest: object, **more: object) -> None:
        if name == "sample_path":
            raise KeyboardInterrupt
        create(name, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalog.open_engine(tmp_path / "c.sqlite")
    with catalog.open_engine(tmp_path / "c.sqlite").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_no_database(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"this is no database, " * 100)
    with pytest.raises(StorageError, match="cannot be opened"):
        catalog.open_engine(tmp_path / "c.sqlite")
    with pytest.raises(StorageError, match="cannot be opened"):
        catalog.open_engine(tmp_path / "none" / "c.sqlite")


def _open(path: str) -> str:
    catalog.open_engine(path).dispose()
    return "opened"


def test_concurrent_creation_is_serialised(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_open, [str(tmp_path / "c.sqlite")] * 4) == ["opened"] * 4
