# SPDX-License-Identifier: Apache-2.0
"""A purge of random trees with links, hard links and odd names deletes exactly the leftovers found."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.purge.delete import delete
from expunge.purge.erased import ErasedImages
from expunge.purge.folders import file_sha256, find_in_folders, named_roots
from expunge.purge.kinds import Survey
from expunge.purge.tree import FileChanged, Root, find_entry, list_folder

RUN = b"task: detect\nmode: train\n"
NUMPY = b"\x93NUMPY\x01\x00 a cache"
WEIGHTS = b"superseded weights" * 50
FOLDERS = (b"a", b"runs", b"with\nline", b"\xff\xfe", b".expunge", b"deep", b"labels")
# (name, content): whether a file is a leftover depends on both, and on the files beside it
FILES = (
    (b"train_batch0.jpg", b"mosaic"), (b"val_batch12_pred.jpg", b"boxes"), (b"train_batch.jpg", b"mine"),
    (b"results.csv", b"epoch"), (b"labels.jpg", b"plot"), (b"args.yaml", RUN), (b"args.yaml", b"mine"),
    (b"train.cache", NUMPY), (b"train.cache", b"mine"), (b"x.npy", NUMPY), (b"x.jpg", b"picture"),
    (b"best.pt", WEIGHTS), (b"best.pt", b"other weights"), (b"odd\nname.pt", WEIGHTS), (b"\xff.pt", WEIGHTS),
    (b"notes.txt", b"mine"), (b"empty.cache", b""),
)  # fmt: skip


@dataclass
class Tree:
    """A folder that is searched (``named``), and one beside it that is not (``outside``)."""

    top: Path
    files: list[bytes] = field(default_factory=list)

    @property
    def named(self) -> bytes:
        return os.fsencode(self.top / "named")

    @property
    def outside(self) -> bytes:
        return os.fsencode(self.top / "outside")


@contextmanager
def tree(plan: list[tuple[list[bytes], int, int]]) -> Iterator[Tree]:
    """Build a tree from (folders, index in FILES, variant) and yield it.

    Variants: 0 plain, 1 read-only, 2 link out, 3 hard link out, 4 link to a folder outside, 5 pipe,
    6 two names.
    """
    made = Tree(Path(tempfile.mkdtemp()))
    try:
        os.mkdir(made.named)
        os.mkdir(made.outside)
        for number, (folders, which, variant) in enumerate(plan):
            name, content = FILES[which]
            place = os.path.join(made.named, *folders)
            try:
                os.makedirs(place, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                continue
            path = os.path.join(place, name)
            if os.path.lexists(path) or os.path.lexists(path + b".d"):
                continue
            beyond = os.path.join(made.outside, b"%d-" % number + name)
            if variant in (2, 3):
                Path(os.fsdecode(beyond)).write_bytes(content)
                (os.symlink if variant == 2 else os.link)(beyond, path)
            elif variant == 4:  # the folder outside has a file that would be a leftover
                os.makedirs(beyond + b".d")
                Path(os.fsdecode(beyond + b".d/train_batch3.jpg")).write_bytes(b"somebody's")
                os.symlink(beyond + b".d", path + b".d")
            elif variant == 5:
                os.mkfifo(path)
            elif variant == 6:
                Path(os.fsdecode(path)).write_bytes(content)
                twin = os.path.join(place, b"train_batch%d.jpg" % (100 + number))
                if not os.path.lexists(twin):
                    os.link(path, twin)
            else:
                Path(os.fsdecode(path)).write_bytes(content)
                os.chmod(path, 0o444 if variant == 1 else 0o644)
        yield made
    finally:
        shutil.rmtree(made.top, ignore_errors=True)


def everything(folder: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Return type and content (or link target) of everything below a folder, links not followed."""
    found: dict[bytes, tuple[int, bytes]] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = Path(os.fsdecode(path)).read_bytes()
            found[path] = (stat.S_IFMT(mode), content)
    return found


def expected(made: Tree) -> set[bytes]:
    """Return the paths of the expected leftovers, from an independent implementation of the rules."""
    found = set()
    for place, folders, files in os.walk(made.named, followlinks=False):
        folders[:] = [f for f in folders if f != b".expunge"]
        regular = {f for f in files if stat.S_ISREG(os.lstat(os.path.join(place, f)).st_mode)}
        content = {f: Path(os.fsdecode(os.path.join(place, f))).read_bytes() for f in regular}
        run = content.get(b"args.yaml") == RUN
        for name, data in content.items():
            if (
                name in (b"train_batch0.jpg", b"val_batch12_pred.jpg")
                or name.startswith(b"train_batch1")
                or (run and name in (b"results.csv", b"labels.jpg", b"args.yaml"))
                or (name.endswith(b".cache") and data == NUMPY)
                or (name == b"x.npy" and data == NUMPY and b"x.jpg" in regular)
                or (name.endswith(b".pt") and data == WEIGHTS)
            ):
                found.add(os.path.join(place, name))
    return found


NO_PICTURES = ErasedImages(b"", {}, [], lambda digest: False, frozenset())


def survey_of(made: Tree) -> Survey:
    """Return the survey of a tree's named folder."""
    weights = made.top / "w"
    weights.write_bytes(WEIGHTS)
    entry = find_entry(Root.of(made.top), (b"w",))
    assert entry is not None
    known = {file_sha256(entry): ("m@1", ("r-1",))}
    roots = named_roots([Path(os.fsdecode(made.named))])
    return Survey(tuple(find_in_folders(roots, [], True, known, NO_PICTURES)))


plans = st.lists(
    st.tuples(
        st.lists(st.sampled_from(FOLDERS), max_size=3),
        st.integers(0, len(FILES) - 1),
        st.integers(0, 6),
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(plan=plans)
def test_exactly_the_leftovers_are_deleted(plan: list[tuple[list[bytes], int, int]]) -> None:
    with tree(plan) as made:
        wanted, outside, inside = expected(made), everything(made.outside), everything(made.named)
        found = survey_of(made)
        assert {x.entry.path for x in found.leftovers} == wanted
        assert survey_of(made).digest == found.digest, "a second survey is equal"
        outcomes = delete([x.entry for x in found.leftovers])
        assert all(o.deleted for o in outcomes), [o.why for o in outcomes]
        assert len(outcomes) == len(wanted)
        assert everything(made.outside) == outside, "hard links elsewhere keep their content"
        remaining = everything(made.named)
        assert remaining.keys() == inside.keys() - wanted
        assert all(remaining[path] == inside[path] for path in remaining)


@settings(max_examples=60, deadline=None)
@given(
    plan=plans,
    which=st.integers(0, 10_000),
    change=st.sampled_from(["content", "swap", "link", "gone", "folder"]),
)
def test_changed_file_stops_the_deletion(
    plan: list[tuple[list[bytes], int, int]], which: int, change: str
) -> None:
    with tree(plan) as made:
        found = survey_of(made)
        plain = [x for x in found.leftovers if x.entry.links == 1]
        if not plain:
            return
        victim = plain[which % len(plain)].entry
        path = os.fsdecode(victim.path)
        treasure = made.top / "treasure"
        treasure.write_bytes(b"somebody's")
        if change == "content":
            Path(path).write_bytes(b"a new and longer content that is somebody's, " * 100)
        elif change == "gone":
            os.unlink(path)
        else:
            os.unlink(path)
            if change == "swap":
                Path(path + ".new").write_bytes(b"somebody's")
                os.rename(path + ".new", path)
            elif change == "link":
                os.symlink(treasure, path)
            else:
                os.mkdir(path)
        assert survey_of(made).digest != found.digest
        outcomes = delete([x.entry for x in found.leftovers])
        assert outcomes[-1].entry == victim
        assert not outcomes[-1].deleted
        assert "changed" in outcomes[-1].why
        assert os.path.lexists(path) == (change != "gone")
        assert treasure.read_bytes() == b"somebody's"
        reached = {o.entry for o in outcomes}
        assert all(os.path.lexists(x.entry.path) for x in found.leftovers if x.entry not in reached)


def test_a_folder_swapped_for_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "named/runs").mkdir(parents=True)
    (tmp_path / "named/runs/train_batch0.jpg").write_bytes(b"mosaic")
    found = list(find_in_folders(named_roots([tmp_path / "named"]), [], True, {}, NO_PICTURES))
    os.rename(tmp_path / "named/runs", tmp_path / "moved")
    os.symlink(tmp_path / "moved", tmp_path / "named/runs")  # the very same file, now behind a link
    (outcome,) = delete([x.entry for x in found])
    assert not outcome.deleted
    assert (tmp_path / "moved/train_batch0.jpg").read_bytes() == b"mosaic"
    os.unlink(tmp_path / "named/runs")
    os.rename(tmp_path / "named", tmp_path / "aside")
    os.symlink(tmp_path / "aside", tmp_path / "named")  # the same for the root itself
    with pytest.raises(FileChanged), found[0].entry.root.open():
        raise AssertionError("opened")


def test_file_is_overwritten_before_it_is_unlinked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train_batch0.jpg").write_bytes(b"a face" * 1000)
    (entry,) = list_folder(Root.of(tmp_path)).files
    seen: list[bytes] = []
    unlink = os.unlink

    def watch(name: bytes, *, dir_fd: int) -> None:
        seen.append((tmp_path / os.fsdecode(name)).read_bytes())
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", watch)
    (outcome,) = delete([entry])
    assert outcome.overwritten
    assert seen == [b"\0" * 6000]


def test_file_with_other_names_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"a face")
    os.link(tmp_path / "mine.jpg", tmp_path / "train_batch0.jpg")
    (found,) = find_in_folders(named_roots([tmp_path]), [], True, {}, NO_PICTURES)
    assert found.as_json()["other_names"] == 1
    (outcome,) = delete([found.entry])
    assert (outcome.deleted, outcome.overwritten) == (True, False)
    assert "1 other name of the file remain" in outcome.why
    assert (tmp_path / "mine.jpg").read_bytes() == b"a face"


def test_nested_folders_count_once(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    os.symlink(tmp_path / "a", tmp_path / "link")
    roots = named_roots([tmp_path / "a/b", tmp_path / "link", tmp_path / "a"])
    assert [r.path for r in roots] == [os.fsencode(os.path.realpath(tmp_path / "a"))]
