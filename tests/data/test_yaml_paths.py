# SPDX-License-Identifier: Apache-2.0
"""Resolving a data.yaml: its root, missing entries, and files in two splits."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.data.export import export_version
from expunge.data.scan import scan
from expunge.data.types import Scan, Version
from expunge.data.yolo import list_yolo
from expunge.errors import InputError

NAMES = "names: [box, disc]\n"
SPLITS = f"train: images/train\nval: images/val\n{NAMES}"


def splits(found: Scan) -> dict[str, int]:
    """Return the number of samples of each split."""
    return {s: n for s in ("train", "val", "test") if (n := sum(x.split == s for x in found.samples))}


def test_a_relative_path_starts_at_the_yaml_or_at_the_current_folder(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "data.yaml").write_text(f"path: shop\n{SPLITS}")
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match="is not a folder"):
        list_yolo(shop / "data.yaml")
    monkeypatch.chdir(tmp_path)
    found = list_yolo(shop / "data.yaml")
    assert found.root == shop
    assert any(str(shop) in note for note in found.notes), "it is said which folder was taken"
    shutil.copytree(shop, shop / "shop")
    with pytest.raises(InputError, match="could mean two folders"):
        list_yolo(shop / "data.yaml")
    shutil.rmtree(shop / "shop" / "images" / "train")  # a folder without a train split is not ambiguous
    assert list_yolo(shop / "data.yaml").root == shop
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match="does not exist"):
        list_yolo(shop / "data.yaml")


def test_a_dot_is_the_folder_of_the_yaml(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "data.yaml").write_text(f"path: .\n{SPLITS}")
    monkeypatch.chdir(tmp_path)
    assert list_yolo(shop / "data.yaml").root == shop
    monkeypatch.chdir(shop)
    assert not list_yolo(shop / "data.yaml").notes


@pytest.mark.parametrize("missing", ["val: images/gone", "val:", "val: labels/val", "val: [images/gone, x]"])
def test_val_and_test_may_be_missing(shop: Path, missing: str) -> None:
    (shop / "data.yaml").write_text(f"train: images/train\n{missing}\ntest: images/none\n{NAMES}")
    found = scan(shop)
    assert splits(found) == {"train": 3}
    assert not found.config.val_in_train
    said = " ".join(found.notes)
    assert "'test: images/none'" in said
    assert "No image is held out" in said


def test_an_export_of_a_labelling_service_without_its_test_folder(shop: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (shop / split).mkdir(exist_ok=True)
            (shop / kind / split).rename(shop / split / kind)
    (shop / "data.yaml").write_text(
        f"train: ../train/images\nval: ../val/images\ntest: ../test/images\n\nnc: 2\n{NAMES}"
    )
    found = scan(shop)
    assert splits(found) == {"train": 3, "val": 2}
    assert sum(bool(s.label_digest) for s in found.samples) == 4


def test_val_equal_to_train(shop: Path, tmp_path: Path) -> None:
    (shop / "data.yaml").write_text(f"train: images/train\nval: images/train\n{NAMES}")
    found = scan(shop)
    assert splits(found) == {"train": 3}
    assert found.config.val_in_train
    version = Version(1, "shop", 1, "", found.root, found.config, 0, 0)
    again = scan(export_version(version, found.samples, tmp_path / "out"))
    assert again.config == found.config
    assert [s.image_digest for s in again.samples] == [s.image_digest for s in found.samples]
    (shop / "data.yaml").write_text(f"train: images/train\nval: images/train\ntest: images/val\n{NAMES}")
    tested = scan(shop)
    assert splits(tested) == {"train": 3, "test": 2}
    assert not tested.config.val_in_train, "there is a split that is held out"


def test_a_file_in_two_splits_is_trained_on(shop: Path) -> None:
    (shop / "train.txt").write_text("./images/train/a.png\n./images/val/c.png\n./images/train/a.png\n")
    (shop / "data.yaml").write_text(f"train: train.txt\nval: images/val\ntest: images/val\n{NAMES}")
    found = scan(shop)
    assert {s.path: s.split for s in found.samples} == {
        "images/train/a.png": "train", "images/val/c.png": "train", "images/val/d.png": "val",
    }  # fmt: skip
    said = " ".join(found.notes)
    assert "1 files of val are in train as well" in said
    assert "1 files are listed more than once in train" in said


def test_images_outside_the_root_widen_it(shop: Path, tmp_path: Path, image: Callable[[Path], Path]) -> None:
    image(tmp_path / "outside" / "x.png")
    yaml_file = tmp_path / "config" / "data.yaml"
    yaml_file.parent.mkdir()
    yaml_file.write_text(f"train: {shop}/images/train\nval: {tmp_path}/outside\n{NAMES}")
    found = scan(yaml_file)
    assert found.root == tmp_path
    assert {s.path for s in found.samples if s.split == "val"} == {"outside/x.png"}
    assert all(s.label_digest for s in found.samples if s.split == "train"), "labels are found as before"
    yaml_file.write_text(f"train: {shop}/images/train\nval: {shop}/images/val\n{NAMES}")
    assert scan(yaml_file).root == shop / "images"


def test_lists_may_start_at_the_current_folder_and_differ_in_normalisation(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = unicodedata.normalize("NFD", "ä ö.png")
    (shop / "images/train/deep/ä ö.png").rename(shop / "images/train/deep" / name)
    (shop / "train.txt").write_text(
        "shop/images/train/a.png\n./images/train/deep/ä ö.png\nnotes.md\nshop/images/gone.png\n",
        encoding="utf-8",
    )
    (shop / "data.yaml").write_text(f"train: train.txt\nval: images/val\n{NAMES}")
    monkeypatch.chdir(tmp_path)
    found = list_yolo(shop / "data.yaml")
    assert [f.path for f in found.files if f.split == "train"] == [
        "images/train/a.png", f"images/train/deep/{name}",
    ]  # fmt: skip
    said = " ".join(found.notes)
    assert "1 of 4 lines in train.txt (train) name files that do not exist" in said
    assert "1 of 4 lines in train.txt (train) name no image" in said
    assert "1 of 4 lines in train.txt (train) start at the current folder" in said


def test_special_files_in_a_dataset_are_refused(shop: Path) -> None:
    os.mkfifo(shop / "images/train/p.png")
    with pytest.raises(InputError, match=r"p\.png") as raised:
        scan(shop)
    assert "named pipe" in raised.value.why
    (shop / "images/train/p.png").unlink()
    (shop / "images/train/l.png").symlink_to(shop / "images/train/l.png")
    with pytest.raises(InputError, match=r"l\.png"):
        scan(shop)
    (shop / "images/train/l.png").unlink()
    (shop / "images/train/f.png").mkdir()
    with pytest.raises(InputError, match=r"f\.png") as raised:
        scan(shop)
    assert "a folder" in raised.value.why
    (shop / "images/train/f.png").rmdir()
    (shop / "labels/train/a.txt").unlink()
    os.mkfifo(shop / "labels/train/a.txt")
    with pytest.raises(InputError, match=r"labels/train/a\.txt") as raised:
        scan(shop)
    assert "named pipe" in raised.value.why
    (shop / "labels/train/a.txt").unlink()
    (shop / "labels/train/a.txt").symlink_to(shop / "labels/train/a.txt")
    with pytest.raises(InputError, match=r"labels/train/a\.txt"):
        scan(shop)


def test_circular_links(shop: Path, image: Callable[[Path], Path]) -> None:
    folders = [shop / "images/train" / f"f{i}" for i in range(9)]
    for folder in folders:
        image(folder / "x.png")
    for folder in folders:
        for other in folders:
            if other != folder:
                (folder / other.name).symlink_to(other, target_is_directory=True)
    with pytest.raises(InputError, match="lead to the same folder"):
        list_yolo(shop / "data.yaml")


def test_deep_folders(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bottom = shop / "images/train" / "/".join(["d"] * 1200)
    here = shop / "images/train"
    try:
        for _ in range(1200):
            here = here / "d"
            os.mkdir(here)
        assert len(list_yolo(shop / "data.yaml").files) == 5
    finally:
        os.removedirs(bottom)  # too deep for pytest's own cleanup
