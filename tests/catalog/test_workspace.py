# SPDX-License-Identifier: Apache-2.0
"""The folder of a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from expunge import workspace as module
from expunge.catalog.tables import DatasetRow
from expunge.errors import InputError, StorageError
from expunge.workspace import Workspace


def row(name: str = "x") -> DatasetRow:
    return DatasetRow(name=name, kind="yolo", root="/", config={})


def test_init_twice_changes_nothing(tmp_path: Path) -> None:
    first = Workspace.init(tmp_path)
    key = first.key
    with first.session() as session:
        session.add(row())
    again = Workspace.init(tmp_path)
    assert again.key == key
    assert len(key) == 32
    assert again.query("SELECT name FROM dataset") == [{"name": "x"}]


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path)
    folders = [workspace.root, workspace.root / "keys", workspace.plans, workspace.models]
    folders += [
        workspace.checkpoints,
        workspace.certificates,
        workspace.requests,
        workspace.locks,
        workspace.tmp,
    ]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert (workspace.root / "keys/suppression.key").stat().st_mode & 0o777 == 0o600
    assert (workspace.root / ".gitignore").read_text() == "*\n"


def test_found_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.init(tmp_path / "a")
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    monkeypatch.delenv("EXPUNGE_WORKSPACE", raising=False)
    monkeypatch.chdir(inner)
    assert Workspace.open().root == tmp_path / "a/.expunge"
    assert Workspace.open(tmp_path / "a").root == Workspace.open("../../.expunge").root
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"There is no workspace in .* or above it"):
        Workspace.open()
    with pytest.raises(InputError, match="expunge init"):
        Workspace.open(inner)
    monkeypatch.setenv("EXPUNGE_WORKSPACE", str(tmp_path / "a"))
    assert Workspace.open().root == tmp_path / "a/.expunge"


def test_lost_or_damaged_keys_are_never_silently_replaced(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path)
    key = workspace.root / "keys/suppression.key"
    key.write_bytes(b"short")
    with pytest.raises(StorageError, match="damaged"):
        _ = workspace.key
    key.unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        _ = workspace.key
    with workspace.session() as session:
        from expunge.catalog.tables import SuppressionRow

        session.add(SuppressionRow(kind="subject", mac="0", request_id="r"))
    with pytest.raises(StorageError, match="cannot be read"):
        Workspace.init(tmp_path)
    assert not key.exists()


def test_session_commits_or_rolls_back(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path)
    with workspace.session(write=True) as session:
        session.add(row("kept"))
    with pytest.raises(IntegrityError), workspace.session() as session:
        session.add_all([row("lost"), row("kept")])
    assert workspace.query("SELECT name FROM dataset") == [{"name": "kept"}]


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path)
    other = Workspace.open(tmp_path)
    with workspace.session(write=True) as writer:
        writer.add(row())
        writer.flush()
        with other.session() as reader:
            assert reader.scalar(select(func.count()).select_from(DatasetRow)) == 0
        assert other.query("SELECT count(*) AS n FROM dataset") == [{"n": 0}]
    assert other.query("SELECT count(*) AS n FROM dataset") == [{"n": 1}]


def test_an_earlier_read_does_not_block_a_write(tmp_path: Path) -> None:
    one, other = Workspace.init(tmp_path), Workspace.open(tmp_path)
    with one.session() as session:
        assert session.scalar(select(func.count()).select_from(DatasetRow)) == 0
        with other.session() as second:
            second.add(row("other"))
        session.add(row("one"))
    assert len(one.query("SELECT name FROM dataset")) == 2


@pytest.mark.parametrize(
    ("mounts", "refused"),
    [
        ("/dev/sda / ext4 rw 0 0\n", False),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {place} nfs4 rw 0 0\n", True),
        ("//server/x {place} cifs rw 0 0\n/dev/sdb {place} xfs rw 0 0\n", False),
        ("/dev/sda / ext4 rw 0 0\nme@host: {above} fuse.sshfs rw 0 0\n", True),
        ("host {above} 9p rw 0 0\ntmpfs {place} tmpfs rw 0 0\n", False),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {place}x nfs rw 0 0\nbroken\n", False),
    ],
)
def test_network_storage_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, refused: bool
) -> None:
    place = tmp_path / "a folder"
    text = mounts.format(place=str(place).replace(" ", "\\040"), above=tmp_path)
    (tmp_path / "mounts").write_text(text)
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "mounts")
    if refused:
        with pytest.raises(StorageError, match="network file system"):
            Workspace.init(place)
        assert not place.exists()
    else:
        Workspace.init(place)
        assert Workspace.open(place).root == place / ".expunge"


def test_moved_to_network_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.init(tmp_path)
    (tmp_path / "mounts").write_text(f"x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "mounts")
    with pytest.raises(StorageError):
        Workspace.open(tmp_path)
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "none")
    Workspace.open(tmp_path)


def test_read_only_location(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        Workspace.init(tmp_path / "file")
