# SPDX-License-Identifier: Apache-2.0
"""Salted Merkle roots, and deletion of erased rows from the catalog, without training."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from expunge.catalog.commitments import commitment
from expunge.catalog.dataset_store import add_version, erase, get_version, resolve_selection, summarize
from expunge.catalog.tables import OpaqueLeaf, RequestRow, SampleRow, SubjectRow
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.erasure.catalog_rows import MARKER, forget_rows, scrub
from expunge.erasure.closing import close_executed, close_request
from expunge.errors import BusyError, InputError
from expunge.evidence import log, manifest
from expunge.evidence.merkle import tree_hash
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.progress import Progress
from expunge.workspace import Workspace

MARK = "Zylphia-Quandt"
REQUEST = "r-0123456789abcdef"


def picture(path: str, *subjects: str, fill: str = "") -> Sample:
    """Return a sample with unique digests."""
    image = hashlib.sha256(f"image {path}{fill}".encode()).hexdigest()
    label = hashlib.sha256(f"label {path}{fill}".encode()).hexdigest()
    return Sample(path, path.split("/")[0], image, label, None, tuple(sorted(subjects)))


def scan_of(samples: Iterable[Sample]) -> Scan:
    return Scan(
        Path("/d"), DatasetConfig("yolo", ("a",)), tuple(sorted(samples, key=lambda s: s.path)), {MARK: 0.5}
    )


MINE = [picture(f"train/{MARK}_{i}.png", MARK) for i in range(3)]
OTHERS = [picture(f"train/x{i}.png", f"p{i % 4}") for i in range(300)] + [picture("val/v.png")]


@pytest.fixture(scope="module")
def erased_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace: shop@1 has the marked person, shop@2 a changed picture, shop@3 not the person."""
    workspace = Workspace.init(tmp_path_factory.mktemp("manifest"))
    with workspace.session(write=True) as session:
        add_version(session, "shop", scan_of([*MINE, *OTHERS]), key=workspace.key)
        changed = [picture(s.path, MARK, fill="2") if s is MINE[0] else s for s in MINE]
        version = add_version(session, "shop", scan_of([*changed, *OTHERS]), key=workspace.key)
        assert version.label == "shop@2"
        after = erase(session, version, set(), {MARK}, request_id=REQUEST, key=workspace.key)
        session.add(
            RequestRow(
                id=REQUEST,
                dataset_id=after.dataset_id,
                state="executed",
                method="auto",
                selection={"samples": 3, "subjects": 1, "models": [], "class": MARK, "note": MARK},
                version_before=2,
                version_after=3,
            )
        )
    return workspace.root


@pytest.fixture
def workspace(erased_template: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(erased_template, tmp_path / ".expunge")))


def words(workspace: Workspace) -> dict[str, bytes]:
    """Return the person's data to search for: id, paths, digests and salts, as bytes and as text."""
    found = {"id": MARK.encode()}
    with closing(sqlite3.connect(workspace.catalog)) as connection:
        rows = connection.execute(
            "SELECT path, image_digest, label_digest, salt FROM sample WHERE removal = 'erased'"
        ).fetchall()
        versions = connection.execute("SELECT number, digest FROM version WHERE number < 3").fetchall()
    for i, (path, image, label, salt) in enumerate(rows):
        found |= {f"path {i}": path.encode(), f"image {i}": image.encode(), f"label {i}": label.encode()}
        found |= {f"salt {i}": salt, f"salt text {i}": salt.hex().encode()}
    return found | {f"digest of version {n}": d.encode() for n, d in versions}


def found_in(folder: Path, sought: dict[str, bytes]) -> set[str]:
    """Return which of the words occur in the content or name of any file."""
    content = b"".join(f.read_bytes() + f.name.encode() for f in folder.rglob("*") if f.is_file())
    return {name for name, word in sought.items() if word in content}


def trees(workspace: Workspace) -> dict[int, manifest.Tree]:
    with workspace.session(write=True) as session:
        return {n: manifest.root_of(session, 1, n) for n in (1, 2, 3)}


def recomputed(workspace: Workspace) -> dict[int, manifest.Tree]:
    with workspace.session() as session:
        return {n: manifest.tree_of(manifest.leaves(session, 1, n)) for n in (1, 2, 3)}


def test_a_commitment_is_computed_as_documented() -> None:
    """The commitment equals an HMAC computed from the documentation."""
    sample = Sample("train/é.png", "train", "00", "11", "cat", ("b", "a"), True)
    row = b'["train/\\u00e9.png","train","00","11","cat",["a","b"],true]'
    assert commitment(b"s" * 32, sample) == hmac.new(b"s" * 32, row, "sha256").digest()


def test_roots_hold_and_salts_matter(workspace: Workspace, erased_template: Path) -> None:
    before = trees(workspace)
    assert len({tree.root for tree in before.values()}) == 3
    assert [tree.leaves for tree in before.values()] == [304, 304, 301]
    assert recomputed(workspace) == before
    with workspace.session(write=True) as session:
        rows = session.execute(select(SampleRow.salt)).scalars().all()
        assert len({*rows}) == len(rows) == 305
        assert all(len(salt or b"") == 32 for salt in rows)
        session.execute(text("UPDATE sample SET salt = zeroblob(32) WHERE path = 'train/x7.png'"))
    assert all(recomputed(workspace)[n] != before[n] for n in (1, 2, 3))


def test_old_rows_without_salts_get_them(workspace: Workspace) -> None:
    with workspace.session(write=True) as session:
        session.execute(text("UPDATE sample SET salt = NULL"))
    stored = trees(workspace)
    assert recomputed(workspace) == stored


def test_leaves_after_are_those_before_minus_removed(workspace: Workspace) -> None:
    """The earlier roots and the difference can be computed before and after the rows are deleted."""
    stored = trees(workspace)
    for _ in range(2):
        with workspace.session(write=True) as session:
            removed = manifest.removed_leaves(session, 1, REQUEST, 2)
            before = manifest.leaves(session, 1, 2)
            after = manifest.leaves(session, 1, 3)
            assert manifest.parent_of(session, 1, 3) == 2
        assert len(removed) == 3
        assert set(before) - set(removed) == set(after)
        assert set(removed) < set(before)
        assert tree_hash(sorted(set(before) - set(removed))).hex() == stored[3].root
        assert recomputed(workspace) == stored
        forget_rows(workspace, REQUEST)
    with workspace.session() as session:
        assert len(session.scalars(select(OpaqueLeaf.leaf)).all()) == 4, "also that of the changed picture"


def test_both_roots_from_one_reading(workspace: Workspace) -> None:
    """The parent's root that is computed along with the child's equals the root of its own rows."""
    with workspace.session(write=True) as session:
        removed = manifest.removed_leaves(session, 1, REQUEST, 2)
        manifest.root_of(session, 1, 3, removed)
        stored = {row[0]: row[1] for row in session.execute(text("SELECT number, root FROM version"))}
        assert stored[1] is None
        assert stored[2] == manifest.tree_of(manifest.leaves(session, 1, 2)).root
    assert trees(workspace) == recomputed(workspace)


def test_the_catalog_forgets(workspace: Workspace) -> None:
    """None of the person's data stays in any file, and the catalog still recognises erased samples."""
    trees(workspace)
    sought = words(workspace)
    there = {name for name in sought if not name.startswith("salt text")}
    assert found_in(workspace.root, sought) == there, "negative control: all is there before"
    assert len(sought) == 1 + 4 * 5 + 2
    assert forget_rows(workspace, REQUEST) == 4
    scrub(workspace)
    assert found_in(workspace.root, sought) == set()
    assert not (workspace.root / MARKER).exists()
    with workspace.session(write=True) as session:
        again = resolve_selection(session, key=workspace.key, subjects=[MARK])
        assert again.already_erased_by == {MARK: REQUEST}
        path = resolve_selection(session, key=workspace.key, sample_paths=[MINE[1].path])
        assert path.already_erased_by == {MINE[1].path: REQUEST}
        assert summarize(session, get_version(session, "shop", 1))["erased_since"] == 4 - 1
        assert session.get_one(RequestRow, REQUEST).selection == {"samples": 3, "subjects": 1, "models": []}
        assert MARK not in session.scalars(select(SubjectRow.name)).all()
        assert len(session.scalars(select(SubjectRow.name)).all()) == 4
        with pytest.raises(InputError, match="erased"):
            add_version(session, "shop", scan_of([*MINE, *OTHERS]), key=workspace.key)
        copy = Sample("train/copy.png", "train", MINE[2].image_digest)
        with pytest.raises(InputError, match="erased"):
            add_version(session, "shop", scan_of([copy, *OTHERS]), key=workspace.key)
        assert add_version(session, "shop", scan_of(OTHERS), key=workspace.key).label == "shop@3"
    assert forget_rows(workspace, REQUEST) == 0, "twice does no harm"


@pytest.mark.parametrize("state", ["executed", "closed"])
def test_a_request_without_any_model(workspace: Workspace, state: str) -> None:
    """A request without models closes; so does one that an earlier release closed without deleting rows."""
    with workspace.session(write=True) as session:
        session.get_one(RequestRow, REQUEST).state = state
    sought = words(workspace)
    close_executed(workspace)
    with workspace.session() as session:
        outcome = session.get_one(RequestRow, REQUEST).result or {}
    assert outcome["state"] == "closed"
    assert found_in(workspace.root, sought) == set()
    result = verify(workspace, REQUEST, VerifyOptions(), Progress(quiet=True))
    assert result["valid"], result
    assert {c["name"] for c in result["checks"] if c["ok"] is None} == {"consistency", "witness"}
    before = {f: f.read_bytes() for f in workspace.root.rglob("*") if f.is_file() and "sqlite" not in f.name}
    assert close_request(workspace, REQUEST, None) == outcome
    close_executed(workspace)
    assert before == {f: f.read_bytes() for f in before}, "closed is closed"


def test_an_unchanged_certificate_is_not_signed_again(workspace: Workspace) -> None:
    """Closing twice signs once; a request with originals left stays executed."""
    (workspace.root.parent / "train").mkdir()
    with workspace.session(write=True) as session:
        session.execute(text("UPDATE dataset SET root = :root"), {"root": str(workspace.root.parent)})
    (workspace.root.parent / MINE[0].path).touch()
    outcome = close_request(workspace, REQUEST, None)
    assert (outcome["state"], outcome["originals_left"]) == ("executed", 1)
    first = Path(outcome["certificate"]).read_bytes()
    assert close_request(workspace, REQUEST, None) == outcome
    assert Path(outcome["certificate"]).read_bytes() == first
    assert len(log.entries_of(workspace)) == 1
    (workspace.root.parent / MINE[0].path).unlink()
    assert close_request(workspace, REQUEST, None)["state"] == "closed"
    logged = [entry.event.kind for entry in log.entries_of(workspace)]
    kinds = [kind for kind in logged if not kind.startswith("request-")]
    assert kinds == ["certified", "rows-forgotten", "certified"]
    assert logged[-1] == "request-closed"


def test_a_plain_delete_leaves_data_in_the_file(workspace: Workspace) -> None:
    """Negative control of the search: a DELETE without overwriting leaves the data in the catalog's file."""
    sought = words(workspace)
    with closing(sqlite3.connect(workspace.catalog)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM sample_subject WHERE sample_id IN"
                           " (SELECT id FROM sample WHERE removal = 'erased')")  # fmt: skip
        connection.execute("DELETE FROM sample WHERE removal = 'erased'")
        connection.commit()
        assert found_in(workspace.root, sought) >= {"path 0", "salt 0", "image 0"}


def test_a_reader_delays_the_deletion(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a reader holds the database, deletion raises BusyError and is completed the next time."""
    monkeypatch.setattr("expunge.erasure.catalog_rows.PATIENCE_SECONDS", 0.0)
    sought = words(workspace)
    with closing(sqlite3.connect(workspace.catalog)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sample").fetchone()
        forget_rows(workspace, REQUEST)
        with pytest.raises(BusyError):
            scrub(workspace)
        assert (workspace.root / MARKER).exists()
    scrub(workspace)
    assert found_in(workspace.root, sought) == set()


def test_json_of_old_versions(workspace: Workspace) -> None:
    """Versions that held the person lose their digest; other versions keep it."""
    forget_rows(workspace, REQUEST)
    with workspace.session() as session:
        digests: dict[int, Any] = {n: get_version(session, "shop", n).digest for n in (1, 2, 3)}
    assert digests[1] == digests[2] == ""
    assert len(digests[3]) == 64
    assert json.dumps(digests)
