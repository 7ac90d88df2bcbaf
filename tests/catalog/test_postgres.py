# SPDX-License-Identifier: Apache-2.0
"""The same models, migrations and queue on a real PostgreSQL server, where one is installed."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import binary, server, sql, url, workspace
from requests_kit import PEOPLE, Paper, add_people

from expunge import pipeline
from expunge.catalog import derived_tables as derived_tables
from expunge.catalog import desk_tables as desk_tables
from expunge.catalog import forgetting
from expunge.catalog.datasets import get_version, load_samples
from expunge.errors import ExpungeError, InputError, StorageError
from expunge.evidence import anchor, log
from expunge.evidence.keys import public_path
from expunge.evidence.verify import Means, verify
from expunge.progress import Progress
from expunge.queue import batch, intake, restored
from expunge.steps.scoping import Ask
from expunge.workspace import Workspace

pytestmark = pytest.mark.slow
__all__ = ["server", "url", "workspace"]


def test_migrations_lead_to_the_tables(workspace: Workspace) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from expunge.catalog.tables import Base

    with workspace._engine.connect() as connection:
        # The server tells an index of expressions in words of its own, so that one is looked at apart.
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
        found = intake.open_request(workspace, Ask(subjects=(who,)), intake.Opening(key=who))
        assert found["received"] == "2026-01-31T09:00:00+00:00", "in UTC, whatever the server's zone"
        intake.approve(workspace, found["request"])
    with pytest.raises(InputError, match="idempotency key"):
        intake.open_request(workspace, Ask(subjects=(PEOPLE[3],)), intake.Opening(key=PEOPLE[0]))
    ran = batch.run(workspace, batch.Chosen(every=True), Progress(quiet=True))
    assert [o["state"] for o in ran.outcomes.values()] == ["closed", "closed"]
    assert [o["digest"] for o in ran.outcomes[found["request"]]["models"]] == [paper.newest().digest] * 2
    with pytest.raises(InputError, match="cannot become"):
        intake.approve(workspace, found["request"])
    assert {r["state"] for r in workspace.query("SELECT state FROM request")} == {"closed"}
    assert Workspace.open(workspace.root).query("SELECT count(*) AS n FROM version") == [{"n": 3}]


def holding(server: str, words: dict[str, bytes]) -> set[str]:
    """Which words are in the server's tables, indexes and statistics on the disk; its log is not searched."""
    folder = Path(server.partition("unix_sock=")[2]).parent / "data" / "base"
    sql(server, "CHECKPOINT")
    content = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return {word for word, value in words.items() if any(value in text for text in content)}


def test_closing_leaves_nothing_in_the_tables(
    server: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VACUUM FULL writes tables, indexes and statistics anew; the write-ahead log is beyond our reach."""
    add_people(workspace, PEOPLE)
    Paper(workspace).install(monkeypatch)
    with workspace._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")  # as the server does by itself: samples of values
    words = {}
    rows = workspace.query("SELECT path, image_digest FROM sample WHERE path LIKE 'train/person-0-%'")
    for row in rows:
        words |= {row["path"]: row["path"].encode(), f"{row['path']} digest": row["image_digest"].encode()}
    assert len(words) == 4
    words |= {"id": b"person-0"}
    assert holding(server, words) == set(words), "the search finds them"
    outcome = pipeline.forget(workspace, Ask(subjects=(PEOPLE[0],)), Progress(quiet=True))
    assert outcome["state"] == "closed"
    assert holding(server, words) == set()
    assert not workspace.catalog.exists(), "no second catalog is made"
    assert pipeline.forget(workspace, Ask(subjects=(PEOPLE[1],)), Progress(quiet=True))["state"] == "closed"


def test_a_reader_puts_the_closing_off(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables cannot be written anew while somebody reads: the request is closed by a later command."""
    add_people(workspace, PEOPLE)
    Paper(workspace).install(monkeypatch)
    monkeypatch.setattr(forgetting, "PATIENCE_SECONDS", 0.2)
    with workspace._engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM sample")
        outcome = pipeline.forget(workspace, Ask(subjects=(PEOPLE[0],)), Progress(quiet=True))
        assert outcome["state"] == "executed"
        reader.rollback()
    again = pipeline.forget(workspace, Ask(subjects=(PEOPLE[0],)), Progress(quiet=True))
    assert again["state"] == "closed"


def dump(server: str, url: str, file: Path) -> None:
    """What a nightly ``pg_dump`` writes."""
    folder, name = (
        server.partition("unix_sock=")[2].rpartition("/")[0],
        url.partition("@/")[2].partition("?")[0],
    )
    subprocess.run(
        [str(binary("pg_dump")), "-h", folder, "-U", "expunge", "-Fc", "-f", str(file), name], check=True
    )


def put_back(server: str, url: str, file: Path) -> None:
    """What an administrator does after a mishap: the dump over the live database."""
    folder, name = (
        server.partition("unix_sock=")[2].rpartition("/")[0],
        url.partition("@/")[2].partition("?")[0],
    )
    command = [str(binary("pg_restore")), "--clean", "--if-exists", "-1", "-h", folder, "-U", "expunge"]
    subprocess.run([*command, "-d", name, str(file)], check=True)


@pytest.mark.skipif(binary("pg_dump") is None, reason="NOT TESTED: pg_dump is not installed")
def test_a_restored_database_cannot_hide_what_was_done_since(
    server: str, url: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is of today, its log too; only the database is of before: nothing of the log is lost."""
    monkeypatch.setenv(anchor.VARIABLE, str(tmp_path / "outside"))

    def present(made: Workspace) -> set[str]:
        with made.session() as session:
            samples = load_samples(session, get_version(session, "shop"), without_erased=True)
        return {who for sample in samples for who in sample.subjects}

    def forget(made: Workspace, who: str) -> dict[str, Any]:
        return pipeline.forget(made, Ask(subjects=(who,)), Progress(quiet=True), actor="ann")

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
    put_back(server, url, tmp_path / "nightly.dump")

    old = paper.workspace = Workspace(workspace.root, workspace.clock)
    assert later in present(old), "the dump brought her back"
    with pytest.raises(InputError, match="restored from a backup") as caught:
        forget(old, another)
    assert "Its catalog lacks events" in caught.value.why
    assert "1 subjects and 2 samples" in caught.value.why
    done = restored.erase_again(old, Progress(quiet=True), "ann")
    (outcome,) = done["requests"]
    assert (done["subjects"], done["samples"], outcome["state"]) == (1, 2, "closed")
    assert not {earlier, later} & present(old)
    means = Means(public_path(old), old.root / "log" / log.ENTRIES, kept)
    found = verify(None, outcome["certificate"], means, Progress(quiet=True))
    assert found["valid"], [c for c in found["checks"] if c["ok"] is False]
    assert {c["name"]: c["ok"] for c in found["checks"]}["consistency"] is True, "the log was continued"
    assert forget(old, another)["state"] == "closed", "all goes on"
    assert forget(old, later)["already_erased_by"], "the list was taken over"

    dump(server, url, tmp_path / "newest.dump")
    old._engine.dispose()
    put_back(server, url, tmp_path / "newest.dump")
    new = paper.workspace = Workspace(workspace.root, workspace.clock)
    assert restored.describe(new)["restored"] is False, "negative control: the newest dump is no step back"
    assert forget(new, last)["state"] == "closed"
    new._engine.dispose()


def test_the_same_digests_as_sqlite(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace.init(tmp_path / "sqlite")
    for made in (workspace, other):
        add_people(made, ("b", "A", "ä", "_", "a"))
    with workspace.session() as one, other.session() as two:
        assert get_version(one, "shop").digest == get_version(two, "shop").digest


def _forget(root: str, who: str) -> str:
    from expunge import pipeline

    try:
        return str(
            pipeline.forget(Workspace(Path(root)), Ask(subjects=(who,)), Progress(quiet=True))["state"]
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


def test_what_is_refused(server: str, url: str, tmp_path: Path) -> None:
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


def test_a_language_sorts_otherwise(server: str, tmp_path: Path) -> None:
    """The negative control of the check of the collation."""
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
