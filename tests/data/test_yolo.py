# SPDX-License-Identifier: Apache-2.0
"""The reader of data.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.data.label_files import LabelFiles
from expunge.data.scan import scan
from expunge.data.yolo import label_classes, label_file, list_yolo
from expunge.errors import InputError

TRAIN = ["images/train/a.png", "images/train/b.png", "images/train/deep/ä ö.png"]
VAL = ["images/val/c.png", "images/val/d.png"]
NAMES = "names: [box, disc]\n"


def listed(root: Path, text: str, name: str = "data.yaml") -> dict[str, list[str]]:
    """Return the listing of a dataset whose YAML is ``text``."""
    (root / name).write_text(text, encoding="utf-8")
    listing = list_yolo(root / name)
    return {
        split: [f.path for f in listing.files if f.split == split]
        for split in ("train", "val", "test")
        if any(f.split == split for f in listing.files)
    }


def test_folders(shop: Path) -> None:
    found = scan(shop / "data.yaml")
    assert [s.path for s in found.samples] == TRAIN + VAL
    assert [s.split for s in found.samples] == ["train"] * 3 + ["val"] * 2
    assert found.config.names == ("box", "disc")
    assert found.root == shop
    assert [bool(s.label_digest) for s in found.samples] == [True] * 4 + [False]
    assert scan(shop) == found


@pytest.mark.parametrize(
    "text",
    [
        "train: images/train\nval: images/val\n",
        "path: .\ntrain: images/train\nval: images/val\n",
        "path: {root}\ntrain: images/train\nval: {root}/images/val\n",
        "path: ../shop\ntrain: [images/train]\nval: [images/val]\n",
        "train: ../images/train\nval: ../images/val\n",  # as exported by some labelling services
        "train: train.txt\nval: lists/val.txt\n",
        "train: [images/train/deep, train2.txt]\nvalidation: images/val\n",
        "train: images/train\nval: images/val\ntest:\ndownload: exit(1)\n",
        "\ufefftrain: images/train/  # a comment\r\nval: ./images/val//\r\ntest: None\r\nroboflow: [a]\n",
        "train: images\\train\nval: '..\\images\\val'\n",
        "path: ''\ntrain: [images/train, images/train]\nval: images/val\n",
        "train: train3.txt\nval: images/val\ntest: ../test/images\n",
    ],
)
def test_spellings_of_image_locations(shop: Path, text: str) -> None:
    (shop / "lists").mkdir()
    (shop / "train.txt").write_text(
        "﻿./images/train/a.png\nimages/train/b.png\n\n" + str(shop / TRAIN[2]) + "\nREADME.md\n",
        encoding="utf-8",
    )
    (shop / "train2.txt").write_text("images/train/a.png\n./images/train/b.png\n")
    (shop / "train3.txt").write_text("images\\train\\a.png\n# a comment\n" + "\n".join(TRAIN[1:] + TRAIN[:1]))
    (shop / "lists" / "val.txt").write_text("./../images/val/c.png\nimages/val/d.png\n")
    assert listed(shop, text.format(root=shop) + NAMES) == {"train": TRAIN, "val": VAL}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [a, b]", ("a", "b")),
        ("names: {1: b, 0: a}", ("a", "b")),
        ("names: {'0': a, '1': 7}\nnc: 2", ("a", "7")),
        ("names: [a, b]\nnc: '2'", ("a", "b")),
        ("names: {0: yes, 1: 2.5}\nnc: 2.0", ("True", "2.5")),
        ("nc: '2'", ("class_0", "class_1")),
        ("nc: 2", ("class_0", "class_1")),
    ],
)
def test_names(shop: Path, text: str, names: tuple[str, ...]) -> None:
    (shop / "n.yaml").write_text(f"train: images/train\nval: images/val\n{text}\n")
    assert list_yolo(shop / "n.yaml").config.names == names


def test_configuration_is_kept(shop: Path) -> None:
    (shop / "p.yaml").write_text(
        f"train: images/train\nval: images/val\n{NAMES}kpt_shape: [17, 3]\nflip_idx: [0, 2, 1]\nchannels: 1\n"
    )
    assert list_yolo(shop / "p.yaml").config.extra == {
        "kpt_shape": [17, 3],
        "flip_idx": [0, 2, 1],
        "channels": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: images/val\nnames: [a, b]", "has no 'train'"),
        ("train:\nval: images/val\nnames: [a, b]", "has no 'train'"),
        ("train: images/train\nnames: [a, b]", "has no 'val'"),
        ("train: images/train\nval: images/val", "neither 'names' nor 'nc'"),
        ("train: images/train\nval: images/val\nnames: {0: a, 2: b}", "not numbered"),
        ("train: images/train\nval: images/val\nnames: [a, a]", "same name"),
        ("train: images/train\nval: images/val\nnames: [a]\nnc: 2", "differ"),
        ("train: images/train\nval: images/val\nnames: nonsense", "cannot be read"),
        ("train: images/gone\nval: images/val\nnames: [a, b]", "does not exist"),
        ("train: [images/train, images/gone]\nval: images/val\nnames: [a, b]", "does not exist"),
        ("train: images/train\nval: images/val\nnames: [a, b]\nnc: '3'", "differ"),
        ("train: images/train\nval: images/val\nnc: many", "neither 'names' nor 'nc'"),
        ("train: images/train\nval: images/val\nnc: 1.5", "neither 'names' nor 'nc'"),
        ("train: images/train\nval: images/val\nnc: .inf", "neither 'names' nor 'nc'"),
        ("train: 7\nval: images/val\nnames: [a, b]", "is not a path"),
        ("train: labels/train\nval: images/val\nnames: [a, b]", "holds no image"),
        ("path: nowhere\ntrain: images/train\nval: images/val\nnames: [a, b]", "is not a folder"),
        ("train: [", "not valid YAML"),
        ("- a", "is not a data.yaml"),
        ("!!python/object/apply:os.system ['exit 1']", "not valid YAML"),
    ],
)
def test_bad_yaml(shop: Path, image: Callable[[Path], Path], text: str, message: str) -> None:
    image(shop.parent / "outside" / "x.png")
    with pytest.raises(InputError, match=message):
        listed(shop, text)


def test_symbolic_links_keep_the_path_they_are_listed_by(
    shop: Path, tmp_path: Path, image: Callable[[Path], Path]
) -> None:
    elsewhere = image(tmp_path / "store" / "more" / "e.png")
    (shop / "images/train/linked").symlink_to(elsewhere.parent, target_is_directory=True)
    (shop / "images/train/f.png").symlink_to(elsewhere)
    (shop / "images/train/loop").symlink_to(shop / "images/train", target_is_directory=True)
    found = {s.path: s.image_digest for s in scan(shop).samples}
    assert found["images/train/linked/e.png"] == found["images/train/f.png"]
    assert not any("loop" in path for path in found)


def test_root_may_be_a_symbolic_link_and_lists_name_the_real_folder(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(shop, target_is_directory=True)
    (shop / "train.txt").write_text("".join(f"{shop / path}\n" for path in TRAIN), encoding="utf-8")
    (shop / "l.yaml").write_text(f"path: {tmp_path / 'alias'}\ntrain: train.txt\nval: images/val\n{NAMES}")
    listing = list_yolo(shop / "l.yaml")
    assert [f.path for f in listing.files] == TRAIN + VAL
    assert listing.root == tmp_path / "alias"


@pytest.mark.parametrize(
    ("root", "path", "label"),
    [
        ("/d", "images/train/a.b.png", "/d/labels/train/a.b.txt"),
        ("/d", "images/images/a.png", "/d/images/labels/a.txt"),
        ("/d", "a.png", "/d/a.txt"),
        ("/d/images", "train/a.png", "/d/labels/train/a.txt"),
        ("/d", "myimages/a.png", "/d/myimages/a.txt"),
    ],
)
def test_where_labels_are(root: str, path: str, label: str) -> None:
    assert str(label_file(Path(root), path)) == label


@pytest.mark.parametrize(
    "row",
    ["2 0.1 0.1 0.1 0.1", "-1 0.1 0.1 0.1 0.1", "box 0.1 0.1 0.1 0.1", "0.5 0 0 0 0", "nan 0 0 0 0", "0 0.1"],
)
def test_bad_label_row_is_named(shop: Path, row: str) -> None:
    (shop / "labels/train/b.txt").write_text(f"1 0.1 0.1 0.1 0.1\n\n{row}\n")
    with pytest.raises(InputError, match=r"labels/train/b\.txt, line 3"):
        scan(shop)


def test_classes_of_a_label(shop: Path) -> None:
    assert label_classes(shop / "labels/train/a.txt") == {0, 1}
    with pytest.raises(InputError, match="cannot be read"):
        label_classes(shop / "labels/train/none.txt")


def test_name_that_is_not_text(shop: Path) -> None:
    bad = os.fsencode(shop / "images/train/") + b"/\xff.png"
    with open(bad, "wb"):
        pass
    with pytest.raises(InputError, match="not valid UTF-8"):
        scan(shop)


ULTRALYTICS = """
import json, sys
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import check_det_dataset, img2label_paths
data = check_det_dataset(sys.argv[1], autodownload=False)
lister = BaseDataset.__new__(BaseDataset)
lister.prefix, lister.fraction = "", 1.0
files = {s: lister.get_img_files(data[s]) for s in ("train", "val")}
print(json.dumps([files, {s: img2label_paths(f) for s, f in files.items()}, list(data["names"].values())]))
"""


def test_ultralytics_lists_the_same(shop: Path, tmp_path: Path, image: Callable[[Path], Path]) -> None:
    image(shop / "images/train/.hidden/h.png")
    image(shop / "images/train/.h.png")
    image(shop / "images/train/UPPER.PNG")
    (shop / "images/train/notes.txt").write_text("no image")
    (shop / "images/train/deep/link").symlink_to(shop / "images/val", target_is_directory=True)
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "c"), "YOLO_OFFLINE": "true"}
    (tmp_path / "c").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ULTRALYTICS, str(shop / "data.yaml")],
        capture_output=True,
        env=environment,
        check=True,
        cwd=tmp_path,
    )
    files, labels, names = json.loads(done.stdout.splitlines()[-1])
    listing = list_yolo(shop / "data.yaml")
    for split in ("train", "val"):
        ours = [f.path for f in listing.files if f.split == split]
        assert sorted(os.path.relpath(file, shop) for file in files[split]) == ours
        places = LabelFiles(shop, listing.folders)
        assert not any(places.linked(path) for path in ours)
        assert sorted(labels[split]) == sorted(places.plain(path) for path in ours)
    assert tuple(names) == listing.config.names
