# SPDX-License-Identifier: Apache-2.0
"""The reader of image-classification folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.data.scan import scan
from expunge.errors import InputError


def test_folders(pets: Path) -> None:
    found = scan(pets)
    assert found.config.kind == "folders"
    assert found.config.names == ("cat", "dog", "emu")
    assert [(s.path, s.split, s.class_name) for s in found.samples] == [
        ("train/cat/1.png", "train", "cat"),
        ("train/cat/x/2.png", "train", "cat"),
        ("train/dog/3.png", "train", "dog"),
        ("val/cat/4.png", "val", "cat"),
        ("val/emu/5.png", "val", "emu"),
    ]
    assert {s.label_digest for s in found.samples} == {""}


def test_an_empty_class_is_a_class(pets: Path) -> None:
    (pets / "train" / "ant").mkdir()
    (pets / "train" / ".ipynb_checkpoints").mkdir()
    assert scan(pets).config.names == ("ant", "cat", "dog", "emu")


def test_validation_may_be_spelled_out(pets: Path) -> None:
    (pets / "val").rename(pets / "validation")
    assert [s.split for s in scan(pets).samples if s.path.startswith("validation/")] == ["val", "val"]


def test_test_may_replace_val(pets: Path) -> None:
    (pets / "val").rename(pets / "test")
    assert {s.split for s in scan(pets).samples} == {"train", "test"}


def test_too_few_images(pets: Path, image: Callable[[Path], Path], tmp_path: Path) -> None:
    image(tmp_path / "flat" / "1.png")
    with pytest.raises(InputError, match="not an image-classification folder"):
        scan(tmp_path / "flat")
    shutil.rmtree(pets / "train")
    with pytest.raises(InputError, match="not an image-classification folder"):
        scan(pets)
    (pets / "train" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="too few images"):
        scan(pets)


def test_missing_held_out_split_is_noted(pets: Path) -> None:
    shutil.rmtree(pets / "val")
    found = scan(pets)
    assert {s.split for s in found.samples} == {"train"}
    assert any("held out" in note for note in found.notes)


def test_folders_without_splits_are_all_train(pets: Path) -> None:
    shutil.rmtree(pets / "val")
    for folder in list((pets / "train").iterdir()):
        folder.rename(pets / folder.name)
    (pets / "train").rmdir()
    (pets / "notes").mkdir()
    found = scan(pets)
    assert found.config.names == ("cat", "dog", "notes"), "as in Ultralytics, a class may be empty"
    assert [(s.path, s.split) for s in found.samples] == [
        ("cat/1.png", "train"), ("cat/x/2.png", "train"), ("dog/3.png", "train"),
    ]  # fmt: skip
    assert any("has no 'train'" in note for note in found.notes)
    (pets / "dog").rename(pets / "images")
    with pytest.raises(InputError, match="not an image-classification folder"):
        scan(pets)
