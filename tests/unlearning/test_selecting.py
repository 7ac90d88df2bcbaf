# SPDX-License-Identifier: Apache-2.0
"""What somebody names, and how a data set is divided for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.errors import InputError
from expunge.unlearning.partition import partition
from expunge.unlearning.selecting import Selected, read_list, select


def sample(path: str, split: str = "train", subjects: tuple[str, ...] = (), name: str = "cat") -> Sample:
    return Sample(path, split, f"digest of {path}", class_name=name, subjects=subjects)


def pictures(root: Path) -> Scan:
    rows = [
        sample("train/cat/a.jpg", subjects=("s1",)),
        sample("train/cat/b.jpg", subjects=("s1", "s2")),
        replace(sample("train/cat/copy.jpg"), image_digest="digest of train/cat/a.jpg"),
        sample("train/dog/c.jpg", name="dog", subjects=("s3",)),
        sample("train/dog/d.jpg", name="dog"),
        *(sample(f"val/cat/{i}.jpg", "val", (f"v{i}",)) for i in range(6)),
        sample("val/cat/s1.jpg", "val", ("s1",)),
        sample("val/cat/s3.jpg", "val", ("s3",)),
        sample("val/dog/e.jpg", "val", ("v9",), "dog"),
    ]
    return Scan(root, DatasetConfig("folders", ("cat", "dog")), tuple(rows))


def test_paths_people_and_copies(tmp_path: Path) -> None:
    found = pictures(tmp_path)
    assert select(found, ["train/cat/a.jpg"]).paths == {"train/cat/a.jpg", "train/cat/copy.jpg"}
    assert select(found, [str(tmp_path / "train/dog/d.jpg")]).paths == {"train/dog/d.jpg"}
    people = select(found, ["s1"])
    assert people.paths == {"train/cat/a.jpg", "train/cat/b.jpg", "train/cat/copy.jpg", "val/cat/s1.jpg"}
    assert (people.goal, people.subjects) == ("subject", {"s1"})


def test_a_class(tmp_path: Path) -> None:
    found = select(pictures(tmp_path), [], ["dog"])
    assert found.paths == {"train/dog/c.jpg", "train/dog/d.jpg", "val/dog/e.jpg"}
    assert found.goal == "class"


@pytest.mark.parametrize(
    ("entries", "classes", "what"),
    [
        (["train/cat/none.jpg"], [], "unknown"),
        (["/elsewhere/a.jpg"], [], "outside"),
        (["s99"], [], "unknown"),
        ([], ["cow"], "no class"),
        ([], [], "empty"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, entries: list[str], classes: list[str], what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        select(pictures(tmp_path), entries, classes)
    assert error.value.next_step


def test_a_list_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "forget.txt"
    file.write_text("\ufefftrain/cat/a.jpg\n\n s1 \n", encoding="utf-8")
    assert read_list(file) == ["train/cat/a.jpg", "s1"]
    file.write_text("\n")
    with pytest.raises(InputError, match="empty"):
        read_list(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_list(tmp_path / "none.txt")


@given(st.integers(0, 2**32))
def test_parts_share_no_picture_and_no_person(seed: int) -> None:
    found = pictures(Path("data"))
    parts = partition(found.samples, found.config, found.root, select(found, ["s1"]), seed)
    rows = [parts.forget, parts.retain, parts.guard, parts.unseen]
    assert sum(map(len, rows)) == len({s.path for part in rows for s in part})
    held = [{p for s in part for p in s.subjects} for part in (parts.guard, parts.unseen)]
    assert not held[0] & held[1]
    trained = {p for s in (*parts.forget, *parts.retain) for p in s.subjects}
    assert not held[1] & trained  # who was trained on is not unseen
    assert "s1" not in held[0] | held[1]  # the forgotten are held out of nothing
    assert parts.forget_groups == ("s1", "s1", "\0digest of train/cat/a.jpg")


def test_val_guards_and_test_judges(tmp_path: Path) -> None:
    found = pictures(tmp_path)
    rows = [*found.samples, sample("test/cat/t.jpg", "test", ("t",))]
    parts = partition(rows, found.config, found.root, select(found, ["s1"]), 0)
    assert {s.split for s in parts.guard} == {"val"}
    assert [s.path for s in parts.unseen] == ["test/cat/t.jpg"]


def test_a_removed_class_neither_guards_nor_judges(tmp_path: Path) -> None:
    found = pictures(tmp_path)
    parts = partition(found.samples, found.config, found.root, select(found, [], ["dog"]), 0)
    assert parts.classes == (1,)
    assert {s.class_name for s in (*parts.guard, *parts.unseen, *parts.retain)} == {"cat"}


def test_nothing_to_do_and_nothing_left(tmp_path: Path) -> None:
    found = pictures(tmp_path)
    with pytest.raises(InputError, match="No training sample"):
        partition(found.samples, found.config, found.root, select(found, ["v1"]), 0)
    everything = Selected(frozenset(s.path for s in found.samples))
    with pytest.raises(InputError, match="Nothing would be left"):
        partition(found.samples, found.config, found.root, everything, 0)
