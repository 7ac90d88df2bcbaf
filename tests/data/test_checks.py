# SPDX-License-Identifier: Apache-2.0
"""Checks while reading a dataset: all unusable files are reported together."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from expunge.data import checks
from expunge.data.checks import ImageChecks, image_key
from expunge.data.findings import MAX_LISTED
from expunge.data.labels import BadLabel, parse_label
from expunge.data.scan import scan
from expunge.errors import InputError


def damage(root: Path, split: str = "train") -> None:
    """Make two images of a split unusable: one by its label, one by its pixels."""
    names = ("a", "b") if split == "train" else ("c", "d")
    (root / f"labels/{split}/{names[0]}.txt").write_text("0 .5 .5 .1 .1\n0 1.071 .5 .2 .2\n")
    picture = root / f"images/{split}/{names[1]}.png"
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(content, "JPEG")
    picture.write_bytes(content.getvalue()[:-2])


def test_all_problems_are_reported_together(shop: Path) -> None:
    damage(shop)
    (shop / "images/train/deep/small.png").write_bytes(b"")
    Image.new("RGB", (9, 40)).save(shop / "images/train/small.png")
    Image.new("RGB", (40, 40)).save(shop / "images/train/other.png", "GIF")
    with pytest.raises(InputError) as raised:
        scan(shop)
    error = raised.value
    assert error.what.startswith("5 of 8 samples cannot be used: labels/train/a.txt, line 2, images/tr")
    lines = error.why.splitlines()
    assert len(lines) == 5
    for part in (
        "labels/train/a.txt, line 2: Its coordinates are not fractions",
        "images/train/b.png: It cannot be decoded",
        "images/train/deep/small.png: It is not an image that can be decoded",
        "images/train/small.png: It has 9x40 pixels",
        "images/train/other.png: Its content is GIF",
    ):
        assert any(line.startswith(part) for line in lines), (part, lines)
    assert "--skip-unreadable" in error.next_step


def test_a_long_list_goes_to_a_file(shop: Path) -> None:
    for index in range(MAX_LISTED + 5):
        (shop / f"images/train/x{index:02d}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=f"{MAX_LISTED + 5} of") as raised:
        scan(shop)
    *listed, last = raised.value.why.splitlines()
    assert len(listed) == MAX_LISTED
    assert last.startswith("… and 5 more.")
    file = Path(last.partition("All of them: ")[2])
    assert len(file.read_text().splitlines()) == MAX_LISTED + 5
    assert file.stat().st_mode & 0o077 == 0
    file.unlink()


def test_problems_in_val_do_not_block(shop: Path) -> None:
    before = scan(shop)
    damage(shop, "val")
    found = scan(shop)
    assert [s.path for s in found.samples] == [s.path for s in before.samples]
    places = [problem.place for problem in found.findings.problems]
    assert places == ["labels/val/c.txt, line 2", "images/val/d.png"]
    assert found.without_problems().samples == before.samples[:3]
    (warning,) = found.findings.warnings()
    assert warning.startswith("2 samples of val cannot be read")
    assert all(place in warning for place in places)
    with pytest.raises(InputError, match="2 of 5 samples cannot be used"):
        scan(shop, strict=True)
    assert scan(shop, skip_unreadable=True, strict=True).samples == found.samples


def test_unusable_samples_can_be_left_out_of_train(shop: Path) -> None:
    damage(shop)
    found = scan(shop, skip_unreadable=True)
    assert len(found.samples) == 3
    assert [problem.split for problem in found.findings.left_out] == ["train"] * 2
    assert not found.findings.problems
    assert next(found.findings.warnings()).startswith("2 samples were left out:")


def test_trusted_and_known_images_are_not_decoded(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = checks.decode_image
    monkeypatch.setattr(
        checks,
        "decode_image",
        lambda content, name, kind: (decoded.append(name), original(content, name, kind)),
    )
    whole = scan(shop)
    assert sorted(decoded) == [sample.path for sample in whole.samples]
    assert whole.findings.undecoded == 0
    decoded.clear()
    damage(shop)
    (shop / "labels/train/a.txt").write_text("0 .5 .5 .1 .1\n")
    trusted = scan(shop, checks=ImageChecks(decode=False))
    assert trusted.findings.undecoded == len(trusted.samples)
    assert "were not decoded" in "".join(trusted.findings.warnings())
    known = frozenset(image_key(s.image_digest, s.path) for s in trusted.samples)
    assert scan(shop, checks=ImageChecks(known_good=lambda: known)).findings.undecoded == 0
    assert not decoded
    with pytest.raises(InputError, match=r"b\.png"):  # another suffix may mean another decoder
        scan(shop, checks=ImageChecks(known_good=lambda: {key.replace(".png", ".jpg") for key in known}))


def test_duplicates_are_counted(shop: Path) -> None:
    (shop / "labels/train/a.txt").write_text("1 .5 .5 .1 .1\n0 .5 .5 .1 .1\n1 0.5 .5 .1 .1\n1 .5 .5 .1 .10\n")
    assert list(scan(shop).findings.warnings()) == [
        "2 label rows are duplicates within their file; each counts once, as in Ultralytics."
    ]


def test_bytes_after_the_end_of_a_jpeg_are_reported(shop: Path) -> None:
    picture = shop / "images/train/tail.jpg"
    Image.new("RGB", (40, 40)).save(picture)
    content = picture.read_bytes() + b"\0\0"
    picture.write_bytes(content)
    (warning,) = scan(shop).findings.warnings()
    assert "(1)" in warning
    assert picture.read_bytes() == content


@pytest.mark.parametrize("shape", [[17], "17", [17, "3"], 3, [17, 3, 1], [-1, 3]])
def test_kpt_shape_must_be_a_pair(shop: Path, shape: object) -> None:
    with open(shop / "data.yaml", "a") as file:
        file.write(f"kpt_shape: {shape!r}\n")
    with pytest.raises(InputError, match="kpt_shape"):
        scan(shop)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("0 .5 .5 .1 .1\n\n0 .5 .5 .1\n", 3, "4 columns"),
        ("0 .5 .5 .1 .1 .1\n", 1, "6 columns"),
        ("0 .1 .1 .2 .1 .2 .2\n0 .5 .5 .1 .1\n", 2, "other rows of the file are polygons"),
        ("0 .1 .1 .2 .1 .2 .2 .3\n", 1, "8 columns"),
        ("0 .5 .5 .1 -.001\n", 1, "negative"),
        ("0 .5 .5 .1 1,1\n", 1, "'1,1' is not a number"),
        ("2 .5 .5 .1 .1\n", 1, "whole numbers from 0 to 1"),
        ("1.5 .5 .5 .1 .1\n", 1, "'1.5' is not a class"),
    ],
)
def test_the_line_is_named(text: str, line: int, part: str) -> None:
    with pytest.raises(BadLabel) as raised:
        parse_label(text, 2)
    assert raised.value.line == line
    assert part in raised.value.reason
