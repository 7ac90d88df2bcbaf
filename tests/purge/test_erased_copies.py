# SPDX-License-Identifier: Apache-2.0
"""Copies of erased images are found by name and by content without the originals; other files are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from robust import world
from robust.commands import Shop
from robust.commands import nursery as shared_nursery

WHO, OTHER = "s03", "s04"
FORGET = ("forget", "--subject", WHO)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Return a workspace with data and without models."""
    nursery = shared_nursery(tmp_path_factory.mktemp("nursery"))
    return world.untrained(nursery, tmp_path_factory.mktemp("copies") / "shop")


@pytest.fixture
def shop(template: Shop, tmp_path: Path) -> Shop:
    """Return a copy of the workspace."""
    return template.copy(tmp_path / "shop")


def picture(shop: Shop, who: str = WHO, number: int = 0) -> Path:
    """Return a training image of a subject."""
    return shop.data / "images" / "train" / f"{who}_{number}.png"


def purged(shop: Shop, folder: Path) -> dict[str, str]:
    """Purge a folder; return the kind of each deleted file by its name."""
    done = shop.ok("purge", "--include", str(folder), "--yes")
    return {Path(x["path"]).name: x["kind"] for x in done["leftovers"] if x["deleted"]}


def save_decoded(source: Path, target: Path) -> Path:
    """Save an image as Ultralytics does with ``cache=disk``; return the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target, cv2.imread(str(source)))
    return target


def test_decoded_copy_is_deleted_with_its_original(shop: Shop) -> None:
    mine = save_decoded(picture(shop), picture(shop).with_suffix(".npy"))
    theirs = save_decoded(picture(shop, OTHER), picture(shop, OTHER).with_suffix(".npy"))
    first = shop.ok(*FORGET)
    assert first["originals_left"] == 7, "three pictures, three labels, one decoded copy"
    assert shop.ok(*FORGET, "--delete-originals")["state"] == "closed"
    assert not mine.exists()
    assert theirs.exists()


def test_decoded_copy_keeps_the_request_open(shop: Shop) -> None:
    mine = save_decoded(picture(shop), picture(shop).with_suffix(".npy"))
    for file in [*shop.data.rglob(f"{WHO}_*.png"), *shop.data.rglob(f"{WHO}_*.txt")]:
        file.unlink()
    assert shop.ok(*FORGET)["originals_left"] == 1
    mine.unlink()
    assert shop.ok(*FORGET)["state"] == "closed"


COPIES = {
    "by its name": lambda s, f: np.save(s.data / "images/train" / f"{WHO}_1.npy", np.zeros((2, 2, 3), "u1")),
    "bgr": lambda s, f: save_decoded(picture(s), f / "a.npy"),
    "rgb": lambda s, f: np.save(f / "b.npy", np.asarray(Image.open(picture(s)))),
    "channels first": lambda s, f: np.save(f / "c.npy", cv2.imread(str(picture(s))).transpose(2, 0, 1)),
    "the same bytes": lambda s, f: shutil.copy(picture(s), f / "holiday.png"),
    "the same pixels": lambda s, f: Image.open(picture(s)).save(f / "holiday.bmp"),
    "in a compressed format": lambda s, f: Image.open(picture(s)).save(f / "x.webp", lossless=True),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copy_is_found_after_the_originals_were_deleted(shop: Shop, tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind != "by its name":
        COPIES[kind](shop, elsewhere)
    closed = shop.ok(*FORGET, "--delete-originals")
    assert closed["state"] == "closed"
    if kind == "by its name":
        COPIES[kind](shop, elsewhere)  # as a training that still runs would write it
    found = purged(shop, shop.data if kind == "by its name" else elsewhere)
    assert len(found) == 1, found
    assert set(found.values()) <= {"decoded", "picture"}
    assert shop.ok("verify", closed["request"])["valid"]


def test_copies_are_found_by_bytes_if_originals_were_deleted_by_hand(shop: Shop, tmp_path: Path) -> None:
    """Pixels are recorded only when `--delete-originals` opens the images."""
    (tmp_path / "x").mkdir()
    shutil.copy(picture(shop), tmp_path / "x" / "copy.png")
    save_decoded(picture(shop), tmp_path / "x" / "array.npy")
    shop.ok(*FORGET)
    for file in [*shop.data.rglob(f"{WHO}_*")]:
        file.unlink()
    assert shop.ok(*FORGET)["state"] == "closed"
    assert purged(shop, tmp_path / "x") == {"copy.png": "picture"}


def test_other_files_are_kept(shop: Shop, tmp_path: Path) -> None:
    """Copies of retained images, arrays that are not images, and broken files are kept."""
    folder = tmp_path / "x"
    folder.mkdir()
    shutil.copy(picture(shop, OTHER), folder / "other.png")
    save_decoded(picture(shop, OTHER), folder / "another.npy")
    np.save(folder / f"{WHO}_0.npy", np.arange(12.0).reshape(3, 4))
    (folder / "cut.npy").write_bytes(b"\x93NUMPY broken")
    (folder / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(folder / "plain.png")
    shop.ok(*FORGET, "--delete-originals")
    before = sorted(f.name for f in folder.iterdir())
    assert purged(shop, folder) == {}
    assert sorted(f.name for f in folder.iterdir()) == before


def test_originals_of_an_open_request_are_kept(shop: Shop) -> None:
    shop.ok(*FORGET)
    assert purged(shop, shop.data) == {}
    assert picture(shop).exists()


def test_purge_counts_copies_for_the_request(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    save_decoded(picture(shop), tmp_path / "x" / "copy.npy")
    closed = shop.ok(*FORGET, "--delete-originals")
    shop.ok("purge", "--include", str(tmp_path / "x"), "--yes")
    assert shop.ok("verify", closed["request"])["valid"]
    certificate = (shop.root / "certificates" / f"{closed['request']}.json").read_text()
    import base64
    import json

    certified = json.loads(base64.b64decode(json.loads(certificate)["payload"]))["predicate"]
    assert [purge["kinds"]["decoded"]["files"] for purge in certified["purged"]] == [1]


@pytest.mark.parametrize("case", ["copied", "moved", "unreachable"])
def test_every_folder_of_a_dataset_is_searched(shop: Shop, case: str) -> None:
    """A dataset that was moved may have originals in its first folder."""
    first, second = shop.data, shop.folder / "second"
    if case == "moved":
        first.rename(second)
    else:
        shutil.copytree(first, second)
    shop.ok("data", "add", "shop", "second/data.yaml", "--subjects", "second/subjects.csv")
    if case == "unreachable":
        shutil.move(first, shop.folder / "unmounted")
    done = shop.ok(*FORGET)
    assert done["originals_left"] == (12 if case == "copied" else 6)
    assert done["originals_unknown"] == (0 if case == "copied" else 1)
    closed = shop.ok(*FORGET, "--delete-originals")
    assert closed["state"] == "closed"
    assert [f for f in shop.folder.rglob(f"{WHO}_*") if "unmounted" not in f.parts] == []
    if case == "unreachable":
        assert list((shop.folder / "unmounted").rglob(f"{WHO}_*")), (
            "which is why they are reported as unknown"
        )


def test_new_image_with_the_name_of_an_erased_one_is_kept(shop: Shop) -> None:
    """The erased image is deleted from the first folder; the new one in the second folder is kept."""
    second = shop.folder / "second"
    shutil.copytree(shop.data, second)
    shop.ok("data", "add", "shop", "second/data.yaml", "--subjects", "second/subjects.csv")
    shop.ok(*FORGET)
    reused = second / "images" / "train" / f"{WHO}_0.png"
    Image.new("RGB", (48, 48), (9, 8, 7)).save(reused)
    (second / "subjects.csv").write_text("sample,subject\nimages/train/free_0.png,s99\n")
    for file in second.rglob(f"{WHO}_[12].*"):
        file.unlink()
    shop.ok("data", "add", "shop", "second/data.yaml", "--subjects", "second/subjects.csv", "--new-consent")
    shop.ok(*FORGET, "--delete-originals")
    assert reused.exists()
    assert not picture(shop).exists()


def test_closing_names_other_datasets_with_the_same_bytes(shop: Shop) -> None:
    shutil.copytree(shop.data, shop.folder / "archive")
    shop.ok("data", "add", "archive", "archive/data.yaml")
    done = shop.ok(*FORGET, "--dataset", "shop", "--delete-originals")
    assert (done["state"], done["same_bytes_in"]) == ("closed", ["archive"])
