# SPDX-License-Identifier: Apache-2.0
"""Scanning: hashing, readability, and digests that are already known."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from expunge.data.scan import read_digests, scan
from expunge.errors import InputError
from expunge.storage.digest import file_digest


def test_digests_are_those_of_the_files(shop: Path) -> None:
    for sample in scan(shop).samples:
        assert sample.image_digest == file_digest(shop / sample.path)
        assert sample.image_digest == hashlib.sha256((shop / sample.path).read_bytes()).hexdigest()


def test_scanning_changes_no_file(shop: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes())
            for path in shop.rglob("*")
            if path.is_file()
        }

    before = state()
    scan(shop)
    assert state() == before


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_unreadable_image_is_named(shop: Path, content: bytes) -> None:
    (shop / "images/train/b.png").write_bytes(content)
    with pytest.raises(InputError, match=r"1 of 5 images cannot be read: images/train/b\.png"):
        scan(shop)


def test_missing_images_of_a_list_are_counted(shop: Path) -> None:
    (shop / "train.txt").write_text(
        "./images/train/a.png\n./images/train/none.png\n./images/train/none2.png\n"
    )
    (shop / "l.yaml").write_text("train: train.txt\nval: images/val\nnames: [box, disc]\n")
    found = scan(shop / "l.yaml")
    assert [s.path for s in found.samples if s.split == "train"] == ["images/train/a.png"]
    assert any("2 of 3 lines in train.txt (train)" in note for note in found.notes)
    (shop / "train.txt").write_text("./images/train/none.png\n")
    with pytest.raises(InputError, match="holds no image"):
        scan(shop / "l.yaml")


def test_a_file_with_a_known_digest_is_not_opened(shop: Path) -> None:
    known = {sample.path: "1" * 64 for sample in scan(shop).samples}
    known["labels/train/a.txt"] = "2" * 64
    (shop / "images/train/a.png").write_bytes(b"not an image")
    (shop / "labels/train/a.txt").write_bytes(b"not a label")
    found = {s.path: s for s in scan(shop, known).samples}
    assert found["images/train/a.png"].image_digest == "1" * 64
    assert found["images/train/a.png"].label_digest == "2" * 64
    assert found["images/train/b.png"].label_digest == file_digest(shop / "labels/train/b.txt")
    assert found["images/val/d.png"].label_digest == ""


def test_read_digests(tmp_path: Path) -> None:
    digest = "aB" * 32
    (tmp_path / "sums").write_text(f"{digest}  ./a b.png\n{digest} *c.png\n\\{digest}  d\\ne\\\\.png\n\n")
    assert read_digests(tmp_path / "sums") == {
        "a b.png": digest.lower(),
        "c.png": digest.lower(),
        "d\ne\\.png": digest.lower(),
    }
    (tmp_path / "sums").write_text(f"{digest}  a.png\nabc  b.png\n")
    with pytest.raises(InputError, match="line 2"):
        read_digests(tmp_path / "sums")
    with pytest.raises(InputError, match="cannot be read"):
        read_digests(tmp_path / "none")


def test_progress_ends_at_the_total(shop: Path) -> None:
    seen: list[tuple[int, int]] = []
    scan(shop, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


def test_missing_dataset(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none.yaml"):
        with pytest.raises(InputError, match="is not a dataset"):
            scan(path)
