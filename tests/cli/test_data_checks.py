# SPDX-License-Identifier: Apache-2.0
"""Checks, counts and warnings of ``data add``."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.data_kit import content, result_of, run, truncate_image, write_image


def test_labels_are_counted_by_split(shop: Path) -> None:
    (shop / "labels/train/free.txt").write_text("\n \r\n")
    (shop / "labels/val/e.txt").unlink()
    added = result_of("data", "add", "shop", shop)
    assert added["labelled"] == {"train": 3, "val": 1}
    assert added["unlabelled"] == {"train": 1, "val": 1}
    assert added["empty"] == {"train": 1, "val": 0}
    assert added["missing"] == {"train": 0, "val": 1}
    assert result_of("data", "show", "shop") == added == result_of("data", "add", "shop", shop)
    shown = " ".join(run("data", "show", "shop").stdout.replace("│", " ").split())
    assert "4 (3 labelled, 1 with an empty label file (background), 0 without a label file)" in shown


def test_a_split_without_labels(shop: Path) -> None:
    (shop / "labels/val").rename(shop / "labels/elsewhere")
    done = run("data", "add", "shop", shop)
    assert done.exit_code == 0
    assert "warning: none of the 2 images of the val split has a label file." in done.stderr
    assert "The label of images/val/e.png would be labels/val/e.txt." in done.stderr
    before = content()
    (shop / "labels").rename(shop / "annotations")
    for name in ("shop", "other"):
        error = result_of("data", "add", name, shop, code=2)
        assert "None of the 4 images of the train split has a label file" in error["error"]
        assert "labels/train/free.txt" in error["reason"]
    assert content() == before
    for path in shop.glob("images/train/*"):
        label = shop / "labels/train" / f"{path.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_bytes(b"")
    assert "every label file is empty" in run("data", "add", "other", shop).stderr


def test_background_may_be_added_later(shop: Path) -> None:
    result_of("data", "add", "shop", shop)
    write_image(shop / "more/x.png")
    (shop / "more.yaml").write_text("train: more\nval: images/val\nnames: [box]\n")
    assert result_of("data", "add", "shop", shop / "more.yaml")["labelled"]["train"] == 4


def test_unreadable_files_of_train_are_left_out_when_asked(shop: Path) -> None:
    table = ("--subjects", shop / "subjects.csv")
    truncate_image(shop)
    (shop / "labels/train/s2_c.txt").write_text("0 .5 .5 .1\n")
    error = result_of("data", "add", "shop", shop, *table, code=2)
    assert "2 of 6 samples" in error["error"]
    added = result_of("data", "add", "shop", shop, *table, "--skip-unreadable")
    assert (added["samples"], added["subjects"]) == (4, 2)
    write_image(shop / "images/train/s1_a.png")
    (shop / "labels/train/s2_c.txt").write_text("0 .5 .5 .1 .1\n")
    assert result_of("data", "add", "shop", shop, *table)["samples"] == 6
    truncate_image(shop)
    before = content()
    error = result_of("data", "add", "shop", shop, *table, "--skip-unreadable", code=2)
    assert "1 files that cannot be used are samples of shop already" in error["error"]
    assert content() == before
    again = result_of("data", "add", "shop", shop, *table, "--skip-unreadable", "--full")
    assert (again["dataset"], again["samples"]) == ("shop@3", 5)


def test_only_new_images_are_decoded(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.data import checks

    decoded: list[str] = []
    original = checks.decode_image
    monkeypatch.setattr(
        checks, "decode_image", lambda data, name, kind: (decoded.append(name), original(data, name, kind))
    )

    def add(*more: object) -> int:
        decoded.clear()
        result_of("data", "add", "shop", shop, *more)
        return len(decoded)

    assert add("--trust-images") == 0
    assert "6 images were not decoded" in run("data", "add", "shop", shop, "--trust-images").stderr
    assert [add(), add(), add("--trust-images"), add()] == [6, 0, 0, 0]
    write_image(shop / "images/train/new.png")
    assert [add(), add()] == [1, 0]
    write_image(shop / "images/train/newer.png")
    assert [add("--trust-images"), add(), add()] == [0, 1, 0]


def test_unreadable_files_of_val_are_refused_or_kept_when_asked(shop: Path) -> None:
    """Kept files are found by an erasure, but not used for evaluation."""
    (shop / "images/val/e.png").write_bytes(b"no picture")
    error = result_of("data", "add", "shop", shop, code=2)
    assert "images/val/e.png: It is not an image" in error["reason"]
    assert "--skip-unreadable" in error["next"]
    for _ in range(2):
        done = run("data", "add", "shop", shop, "--skip-unreadable")
        assert done.exit_code == 0
        assert "1 samples of val cannot be read" in done.stderr
    assert result_of("data", "show", "shop")["samples"] == 6


def test_unsupported_channels_give_a_note(shop: Path) -> None:
    with open(shop / "data.yaml", "a") as file:
        file.write("channels: 1\n")
    assert "channels: 1" in run("data", "add", "shop", shop).stderr
