# SPDX-License-Identifier: Apache-2.0
"""Sanitized exports: they hold the given samples and nothing else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expunge.data.export import export_version
from expunge.data.scan import scan
from expunge.data.types import Sample, Scan, Version
from expunge.errors import InputError, StorageError


def version_of(found: Scan) -> Version:
    return Version(1, "shop", 1, "", found.root, found.config, len(found.samples), 0)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("link", [False, True])
def test_round_trip(shop: Path, tmp_path: Path, link: bool) -> None:
    (shop / "labels/train.cache").write_bytes(b"cache")
    (shop / "images/train/a.npy").write_bytes(b"array")
    found = scan(shop)
    written = export_version(version_of(found), found.samples, tmp_path / "out", link)
    assert written == tmp_path / "out" / "data.yaml"
    again = scan(written)
    assert again.samples == found.samples
    assert again.config == found.config
    assert files(tmp_path / "out") == {
        "data.yaml",
        *(s.path for s in found.samples),
        *(f"labels{s.path[6:-4]}.txt" for s in found.samples if s.label_digest),
    }
    same = os.path.samefile(shop / "images/train/a.png", tmp_path / "out/images/train/a.png")
    assert same is link
    assert yaml.safe_load(written.read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "box", 1: "disc"},
    }


def test_only_the_given_samples_appear(shop: Path, tmp_path: Path) -> None:
    found = scan(shop)
    kept = [s for s in found.samples if s.path != "images/train/b.png"]
    (shop / "images/train/b.png").unlink()  # erased files are not opened
    export_version(version_of(found), kept, tmp_path / "out")
    assert not any("b." in Path(name).name for name in files(tmp_path / "out"))
    assert list(scan(tmp_path / "out").samples) == kept


def test_splits_without_own_folder_become_lists(shop: Path, tmp_path: Path) -> None:
    found = scan(shop)
    mixed = [replace(s, split="val") if s.path.endswith("b.png") else s for s in found.samples]
    mixed = [replace(s, split="test") if s.path.endswith("d.png") else s for s in mixed]
    export_version(version_of(found), mixed, tmp_path / "out")
    data = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert (data["train"], data["val"], data["test"]) == ("train.txt", "val.txt", "test.txt")
    assert list(scan(tmp_path / "out").samples) == mixed


def test_works_wherever_it_is_moved(shop: Path, tmp_path: Path) -> None:
    found = scan(shop)
    export_version(version_of(found), found.samples, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert scan(tmp_path / "moved").samples == found.samples


@pytest.mark.parametrize("victim", ["images/train/b.png", "labels/train/b.txt"])
@pytest.mark.parametrize("link", [False, True])
def test_changed_or_missing_file(shop: Path, tmp_path: Path, victim: str, link: bool) -> None:
    found = scan(shop)
    with open(shop / victim, "ab") as file:
        file.write(b"\n")
    with pytest.raises(InputError, match=f"{victim} has changed"):
        export_version(version_of(found), found.samples, tmp_path / "out", link)
    (shop / victim).unlink()
    with pytest.raises(InputError, match=f"{victim} cannot be read"):
        export_version(version_of(found), found.samples, tmp_path / "out", link)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_target_must_be_new_or_empty(shop: Path, tmp_path: Path) -> None:
    found = scan(shop)
    (tmp_path / "out").mkdir()
    export_version(version_of(found), found.samples, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        export_version(version_of(found), found.samples[:1], tmp_path / "out")
    assert files(tmp_path / "out") == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="exists already"):
        export_version(version_of(found), found.samples, tmp_path / "file")
    with pytest.raises(StorageError):
        export_version(version_of(found), found.samples, tmp_path / "file" / "below")


def test_disk_full(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scan(shop)

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="disk is full"):
        export_version(version_of(found), found.samples, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_labels_beside_images(tmp_path: Path, image: Callable[[Path], Path]) -> None:
    for name in ("train", "b"):
        image(tmp_path / "d" / "t" / f"{name}.png")
    image(tmp_path / "d" / "train.png")
    (tmp_path / "d" / "train.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "d" / "list.txt").write_text("./train.png\n./t/b.png\n")
    (tmp_path / "d" / "v.txt").write_text("./t/train.png\n")
    (tmp_path / "d" / "data.yaml").write_text("train: list.txt\nval: v.txt\nnc: 1\n")
    found = scan(tmp_path / "d")
    assert [bool(s.label_digest) for s in found.samples] == [False, False, True]
    export_version(version_of(found), found.samples, tmp_path / "out")
    assert scan(tmp_path / "out").samples == found.samples
    with pytest.raises(InputError, match="named 'images'"):
        export_version(version_of(found), found.samples, tmp_path / "images" / "out")


def test_root_called_images(tmp_path: Path, image: Callable[[Path], Path]) -> None:
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "a.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "images" / "data.yaml").write_text("train: train\nval: val\nnc: 1\n")
    found = scan(tmp_path / "images")
    assert all(s.label_digest for s in found.samples)
    export_version(version_of(found), found.samples, tmp_path / "out")
    assert scan(tmp_path / "out").samples == found.samples


def test_empty_class_folders_are_created(pets: Path, tmp_path: Path) -> None:
    found = scan(pets)
    kept = [s for s in found.samples if s.class_name != "dog"]
    assert export_version(version_of(found), kept, tmp_path / "out") == tmp_path / "out"
    again = scan(tmp_path / "out")
    assert list(again.samples) == kept
    assert again.config.names == found.config.names
    assert (tmp_path / "out/train/dog").is_dir()
    assert (tmp_path / "out/val/dog").is_dir()
    assert not (tmp_path / "out/test").exists()


NAME = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "Zs"), include_characters="._- '\"#:%[]"), max_size=5
)


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.tuples(NAME, st.sampled_from(["train", "val", "test"])), max_size=5),
    as_list=st.booleans(),
)
def test_round_trip_of_any_tree(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]], as_list: bool
) -> None:
    base = tmp_path_factory.mktemp("any")
    root = base / "d"
    pixel = io.BytesIO()
    Image.new("RGB", (10, 10)).save(pixel, "PNG")
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    folders = {"train": "images/train", "val": "images/val", "test": "images/test"}
    for index, (name, split) in enumerate([("x", "train"), ("y", "val"), *names]):
        path = root / folders[split] / f"n{index}{name}" / f"{name}{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pixel.getvalue() + bytes([index]))
        label = root / str(path.relative_to(root)).replace("images/", "labels/", 1).replace(".png", ".txt")
        if index % 2 and label.parent != path.parent:
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 .5 .5 .1 .1\n")
        lists[split].append(str(path.relative_to(root)))
    data: dict[str, object] = {"names": ["only"]}
    for split, paths in lists.items():
        if paths:
            data[split] = f"{split}.txt" if as_list else folders[split]
            (root / f"{split}.txt").write_text("".join(f"./{path}\n" for path in paths), encoding="utf-8")
    (root / "data.yaml").write_text(yaml.safe_dump(data))
    found = scan(root)
    export_version(version_of(found), found.samples, base / "out")
    again = scan(base / "out")
    assert again.samples == found.samples
    assert again.config == found.config


def test_hard_link_of_a_symbolic_link_is_a_file(
    shop: Path, tmp_path: Path, image: Callable[[Path], Path]
) -> None:
    target = image(tmp_path / "store" / "e.png")
    (shop / "images/train/e.png").symlink_to(target)
    found = scan(shop)
    export_version(version_of(found), found.samples, tmp_path / "out", link=True)
    assert not (tmp_path / "out/images/train/e.png").is_symlink()
    assert scan(tmp_path / "out").samples == found.samples


def test_some_names_cannot_be_listed(shop: Path, tmp_path: Path) -> None:
    odd = Sample("images/train/a\n.png", "train", "")
    (shop / odd.path).write_bytes((shop / "images/train/a.png").read_bytes())
    found = scan(shop)
    samples = [replace(s, split="val") if s.path.endswith("b.png") else s for s in found.samples]
    with pytest.raises(InputError, match="cannot be written in a list"):
        export_version(version_of(found), samples, tmp_path / "out")
