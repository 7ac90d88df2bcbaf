# SPDX-License-Identifier: AGPL-3.0-or-later
"""A data.yaml has the same meaning as in Ultralytics: splits, names, and the labels that count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expunge.data.types import DatasetConfig
from expunge.data.yolo import list_yolo
from expunge.errors import InputError
from expunge.tasks.boxes_data import class_index
from expunge.tasks.class_map import class_map
from expunge.tasks.quiet import load_ultralytics

FOLDERS = ("images/train", "images/val", "images/more", "train/images")
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with pictures and lists, inside the current folder."""
    load_ultralytics()
    root = tmp_path_factory.mktemp("place") / "shop"
    for folder in FOLDERS:
        for name in ("a.png", "sub/b.JPG", ".hidden.png", "notes.txt"):
            file = root / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (root / "list.txt").write_text("./images/more/a.png\n./images/train/sub/b.JPG\n./notes.md\n")
    (root / "full.txt").write_text(f"\ufeff{root}/images/val/a.png\n", encoding="utf-8")
    (root / "images" / "link").symlink_to("more")
    before = os.getcwd()
    os.chdir(root)
    yield root
    os.chdir(before)


ENTRIES = st.sampled_from(
    [*FOLDERS, "images/train/", "./images/val", "../images/more", "images", "images/link", "list.txt",
     "full.txt", "images/../images/val", "gone", "gone.txt"]
)  # fmt: skip
VALUES = st.one_of(ENTRIES, st.lists(ENTRIES, min_size=1, max_size=2), st.none())
WORDS = st.sampled_from(["box", "disc", "é", "7", "no", "a b"])
NAMES = st.one_of(
    st.none(),
    st.lists(st.one_of(WORDS, st.integers(0, 9), st.booleans(), st.floats(0, 9)), max_size=3),
    st.dictionaries(st.one_of(st.integers(0, 3), st.sampled_from(["0", "1", "x"])), WORDS, max_size=3),
    WORDS,
)
COUNTS = st.sampled_from([None, 1, 2, "2", 2.0, "3.0", "many", 1.5, 0])
YAMLS = st.fixed_dictionaries(
    {"train": VALUES.filter(bool), "val": VALUES},
    optional={
        "test": VALUES, "names": NAMES, "nc": COUNTS, "path": st.sampled_from(["", ".", "../shop"]),
        "download": st.just("exit(1)"), "roboflow": st.just({"a": 1}), "kpt_shape": st.just([17, 3]),
    },
)  # fmt: skip


def theirs(file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, set[str]], list[str]]:
    """Return the files of each split according to Ultralytics (train before val before test)."""
    from ultralytics.data import utils
    from ultralytics.data.base import BaseDataset

    monkeypatch.setattr(utils, "check_font", lambda font: None)
    data: dict[str, Any] = utils.check_det_dataset(str(file), autodownload=False)
    lister: Any = BaseDataset.__new__(BaseDataset)
    lister.prefix, lister.fraction = "", 1.0
    found, seen = {}, set[str]()
    for split in SPLITS:
        try:
            listed = set(lister.get_img_files(data[split])) if data.get(split) else set()
        except FileNotFoundError:
            if split == "train":
                raise
            listed = set()
        found[split] = {os.path.abspath(path) for path in listed} - seen
        seen |= found[split]
    return found, list(data["names"].values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=YAMLS)
def test_the_same_splits_and_names(
    place: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any]
) -> None:
    file = place / "data.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        found, names = theirs(file, monkeypatch)
    except Exception:
        return  # what Ultralytics refuses may be refused or accepted here
    if len(set(names)) < len(names):  # here, classes are identified by name
        with pytest.raises(InputError, match="same name"):
            list_yolo(file)
        return
    listing = list_yolo(file)
    ours = {s: {str(listing.root / f.path) for f in listing.files if f.split == s} for s in SPLITS}
    resolved = {s: {os.path.realpath(p) for p in paths} for s, paths in ours.items()}
    assert resolved == {s: {os.path.realpath(p) for p in paths} for s, paths in found.items()}
    assert list(listing.config.names) == names


def test_every_yaml_that_ultralytics_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Path(load_ultralytics().__file__).parent / "cfg" / "datasets"
    files = sorted(library.glob("*.yaml"))
    assert len(files) > 20
    monkeypatch.chdir(tmp_path)
    for file in files:
        with pytest.raises(InputError) as raised:
            list_yolo(file)
        assert "is not a folder" in raised.value.what, f"{file.name}: {raised.value}"
        fetched = "\ndownload:" in file.read_text(encoding="utf-8")
        assert ("Nothing is downloaded" in raised.value.next_step) == fetched


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("chosen", [None, [0, 2], [1], []])
def test_the_same_labels_count_as_in_ultralytics(single: bool, chosen: list[int] | None) -> None:
    from ultralytics.data.base import BaseDataset

    names = ("box", "disc", "rare")
    classes = np.array([[0.0], [1], [2], [2]], np.float32)
    known: Any = BaseDataset.__new__(BaseDataset)
    known.single_cls = single
    known.labels = [{"cls": classes.copy(), "bboxes": np.zeros((4, 4)), "segments": []}]
    known.update_labels(chosen)
    record = {"single_cls": single, "classes": chosen}
    opened: Any = SimpleNamespace(task="detect", names=("item",) if single else names, train_args=record)
    config = DatasetConfig("yolo", names, class_map=class_map(opened, DatasetConfig("yolo", names)))
    index = class_index(config, opened.names)[classes[:, 0].astype(int)]
    assert index[~np.isnan(index)].tolist() == known.labels[0]["cls"][:, 0].tolist()
