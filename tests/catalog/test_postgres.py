# SPDX-License-Identifier: Apache-2.0
"""Models, migrations and the queue on a real PostgreSQL server, if one is installed."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import binary, server, sql, url, workspace
from requests_kit import PEOPLE, Paper, add_people

from expunge.catalog import derived_tables as derived_tables
from expunge.catalog import desk_tables as desk_tables
from expunge.catalog.dataset_store import get_version, load_samples
from expunge.erasure import catalog_rows, execution, intake, restoration, scheduler
from expunge.erasure.scope import ErasureRequest
from expunge.errors import ExpungeError, InputError, StorageError
from expunge.evidence import anchor, log
from expunge.evidence.key_store import public_path
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.progress import Progress
from expunge.workspace import Workspace

pytestmark = pytest.mark.slow
__all__ = ["server", "url", "workspace"]


def test_migrations_match_the_tables(workspace: Workspace) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from expunge.catalog.tables import Base

    with workspace._engine.connect() as connection:
        # The server rewrites the expressions of an index, so this index is compared separately.
        options = {"include_object": lambda _object, name, *_rest: name != "request_queue"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    (index,) = workspace.query("SELECT indexdef FROM pg_indexes WHERE indexname = 'request_queue'")
    assert index["indexdef"].endswith("COALESCE(due, received), id)")
    assert not workspace.catalog.exists()


def test_the_queue(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    add_people(workspace, PEOPLE)
    paper = Paper(workspace)
    paper.install(monkeypatch)
    for who in PEOPLE[:2]:
        found = intake.open_request(workspace, ErasureRequest(subjects=(who,)), intake.Opening(key=who))
        assert found["received"] == "2026-01-31T09:00:00+00:00", "in UTC, whatever the server's zone"
        intake.approve(workspace, found["request"])
    with pytest.raises(InputError, match="idempotency key"):
        intake.open_request(workspace, ErasureRequest(subjects=(PEOPLE[3],)), intake.Opening(key=PEOPLE[0]))
    ran = scheduler.run(workspace, scheduler.QueueSelection(every=True), Progress(quiet=True))
    assert [o["state"] for o in ran.outcomes.values()] == ["closed", "closed"]
    assert [o["digest"] for o in ran.outcomes[found["request"]]["models"]] == [paper.newest().digest] * 2
    with pytest.raises(InputError, match="cannot become"):
        intake.approve(workspace, found["request"])
    assert {r["state"] for r in workspace.query("SELECT state FROM request")} == {"closed"}
    assert Workspace.open(workspace.root).query("SELECT count(*) AS n FROM version") == [{"n": 3}]


def holding(server: str, words: dict[str, bytes]) -> set[str]:
    """Return the words found in the server's tables, indexes and statistics on disk (not in its log)."""
    folder = Path(server.partition("unix_sock=")[2]).parent / "data" / "base"
    sql(server, "CHECKPOINT")
    content = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return {word for word, value in words.items() if any(value in text for text in content)}


def test_closing_leaves_nothing_in_the_tables(
    server: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VACUUM FULL rewrites tables, indexes and statistics; the write-ahead log cannot be rewritten."""
    add_people(workspace, PEOPLE)
    Paper(workspace).install(monkeypatch)
    with workspace._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")  # as the server does on its own; statistics hold sampled values
    words = {}
    rows = workspace.query("SELECT path, image_digest FROM sample WHERE path LIKE 'train/person-0-%'")
    for row in rows:
        words |= {row["path"]: row["path"].encode(), f"{row['path']} digest": row["image_digest"].encode()}
    assert len(words) == 4
    words |= {"id": b"person-0"}
    assert holding(server, words) == set(words), "the search finds them"
    outcome = execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[0],)), Progress(quiet=True))
    assert outcome["state"] == "closed"
    assert holding(server, words) == set()
    assert not workspace.catalog.exists(), "no second catalog is made"
    assert (
        execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[1],)), Progress(quiet=True))["state"]
        == "closed"
    )


def test_a_reader_postpones_closing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables cannot be rewritten while they are read, so a later command closes the request."""
    add_people(workspace, PEOPLE)
    Paper(workspace).install(monkeypatch)
    monkeypatch.setattr(catalog_rows, "PATIENCE_SECONDS", 0.2)
    with workspace._engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM sample")
        outcome = execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[0],)), Progress(quiet=True))
        assert outcome["state"] == "executed"
        reader.rollback()
    again = execution.forget(workspace, ErasureRequest(subjects=(PEOPLE[0],)), Progress(quiet=True))
    assert again["state"] == "closed"


def dump(server: str, url: str, file: Path) -> None:
    """Return the output of ``pg_dump``."""
    folder, name = (
        server.partition("unix_sock=")[2].rpartition("/")[0],
        url.partition("@/")[2].partition("?")[0],
    )
    subprocess.run(
        [str(binary("pg_dump")), "-h", folder, "-U", "expunge", "-Fc", "-f", str(file), name], check=True
    )


def restore(server: str, url: str, file: Path) -> None:
    """Restore a dump over the live database."""
    folder, name = (
        server.partition("unix_sock=")[2].rpartition("/")[0],
        url.partition("@/")[2].partition("?")[0],
    )
    command = [str(binary("pg_restore")), "--clean", "--if-exists", "-1", "-h", folder, "-U", "expunge"]
    subprocess.run([*command, "-d", name, str(file)], check=True)


@pytest.mark.skipif(binary("pg_dump") is None, reason="NOT TESTED: pg_dump is not installed")
def test_a_restored_database_cannot_hide_later_events(
    server: str, url: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder and its log are current and only the database is old; no log entry is lost."""
    monkeypatch.setenv(anchor.VARIABLE, str(tmp_path / "outside"))

    def present(made: Workspace) -> set[str]:
        with made.session() as session:
            samples = load_samples(session, get_version(session, "shop"), without_erased=True)
        return {who for sample in samples for who in sample.subjects}

    def forget(made: Workspace, who: str) -> dict[str, Any]:
        return execution.forget(made, ErasureRequest(subjects=(who,)), Progress(quiet=True), actor="ann")

    earlier, later, another, last = PEOPLE[:4]
    add_people(workspace, PEOPLE)
    paper = Paper(workspace, judged=True)
    paper.install(monkeypatch)
    forget(workspace, earlier)
    dump(server, url, tmp_path / "nightly.dump")
    forget(workspace, later)
    kept = tmp_path / "kept.json"
    shutil.copy(workspace.root / "log" / log.HEAD, kept)
    workspace._engine.dispose()
    restore(server, url, tmp_path / "nightly.dump")

    old = paper.workspace = Workspace(workspace.root, workspace.clock)
    assert later in present(old), "the dump brought her back"
    with pytest.raises(InputError, match="restored from a backup") as caught:
        forget(old, another)
    assert "Its catalog lacks events" in caught.value.why
    assert "1 subjects and 2 samples" in caught.value.why
    done = restoration.erase_again(old, Progress(quiet=True), "ann")
    (outcome,) = done["requests"]
    assert (done["subjects"], done["samples"], outcome["state"]) == (1, 2, "closed")
    assert not {earlier, later} & present(old)
    means = VerifyOptions(public_path(old), old.root / "log" / log.ENTRIES, kept)
    found = verify(None, outcome["certificate"], means, Progress(quiet=True))
    assert found["valid"], [c for c in found["checks"] if c["ok"] is False]
    assert {c["name"]: c["ok"] for c in found["checks"]}["consistency"] is True, "the log was continued"
    assert forget(old, another)["state"] == "closed", "all goes on"
    assert forget(old, later)["already_erased_by"], "the list was taken over"

    dump(server, url, tmp_path / "newest.dump")
    old._engine.dispose()
    restore(server, url, tmp_path / "newest.dump")
    new = paper.workspace = Workspace(workspace.root, workspace.clock)
    assert restoration.restore_status(new)["restored"] is False, (
        "negative control: the newest dump is no step back"
    )
    assert forget(new, last)["state"] == "closed"
    new._engine.dispose()


def test_the_same_digests_as_sqlite(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace.init(tmp_path / "sqlite")
    for made in (workspace, other):
        add_people(made, ("b", "A", "ä", "_", "a"))
    with workspace.session() as one, other.session() as two:
        assert get_version(one, "shop").digest == get_version(two, "shop").digest


def _forget(root: str, who: str) -> str:
    from expunge.erasure import execution

    try:
        return str(
            execution.forget(Workspace(Path(root)), ErasureRequest(subjects=(who,)), Progress(quiet=True))[
                "state"
            ]
        )
    except ExpungeError as error:
        return error.what


def test_writers_take_turns(workspace: Workspace) -> None:
    add_people(workspace, PEOPLE)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.starmap(_forget, [(str(workspace.root), who) for who in PEOPLE[:4]])
    assert done == ["closed"] * 4
    with workspace.session() as session:
        assert get_version(session, "shop").number == 5


def test_refused_databases(server: str, url: str, tmp_path: Path) -> None:
    sql(server, "CREATE DATABASE sorted TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'")
    Workspace.init(tmp_path / "bytes", server.format("sorted"))._engine.dispose()
    with pytest.raises(StorageError, match="cannot be opened"):
        Workspace.init(tmp_path / "none", server.format("no_such_database"))
    with pytest.raises(InputError, match=r"catalog\.url"):
        Workspace.init(tmp_path / "mysql", "mysql://somewhere")
    with pytest.raises(InputError, match="settings or a catalog already"):
        Workspace.init(tmp_path / "bytes", url)
    old = Workspace.init(tmp_path / "old")
    (old.root / "settings.toml").write_text(f'[catalog]\nurl = "{url}"\n')
    with pytest.raises(InputError, match="two catalogs"), Workspace.open(old.root).session():
        pass


def test_language_collations_sort_differently(server: str, tmp_path: Path) -> None:
    """Negative control for the collation check."""
    locales = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()
    language = next((name for name in locales if name.lower().startswith("en_us.utf")), None)
    if language is None:
        sql(server, "CREATE DATABASE german TEMPLATE template0")
        sql(server, "UPDATE pg_database SET datcollate = 'de_DE.UTF-8' WHERE datname = 'german'")
    else:
        sql(
            server, f"CREATE DATABASE german TEMPLATE template0 LC_COLLATE '{language}' LC_CTYPE '{language}'"
        )
    with pytest.raises(StorageError, match=r"rules of a language|cannot be opened"):
        Workspace.init(tmp_path, server.format("german"))
