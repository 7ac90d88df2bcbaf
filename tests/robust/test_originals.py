# SPDX-License-Identifier: Apache-2.0
"""The user's own files: they stay without the word, and with it only what was erased goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from robust import scenes, world
from robust.commands import Nursery, Shop

from expunge.evidence.certificates import predicate_of


def test_originals_stay_without_the_word(shop: Shop) -> None:
    before = shop.files()
    outcome = shop.ok("forget", "--subject", "s03")
    assert (outcome["state"], outcome["originals_left"]) == ("executed", 6)
    mine = {k: v for k, v in before.items() if not k.startswith(".expunge/")}
    assert {k: v for k, v in shop.files().items() if not k.startswith(".expunge/")} == mine


def test_delete_originals(shop: Shop, tmp_path: Path) -> None:
    """Exactly the images and labels of the request; a link goes, what it points to elsewhere stays."""
    outside = tmp_path / "archive"
    outside.mkdir()
    image = shop.data / "images/train/s03_1.png"
    shutil.move(image, outside / "kept.png")
    image.symlink_to(outside / "kept.png")
    before = shop.files()
    outcome = shop.ok("forget", "--subject", "s03", "--delete-originals")
    assert (outcome["state"], outcome["originals_left"]) == ("closed", 0)
    gone = {k for k in before.keys() - shop.files().keys() if k.startswith("data/")}
    assert gone == {
        f"data/{p}/train/s03_{k}.{e}" for k in range(3) for p, e in (("images", "png"), ("labels", "txt"))
    }
    assert not image.is_symlink()
    assert (outside / "kept.png").is_file()


def test_delete_originals_later(shop: Shop) -> None:
    """The same request again with the word added; the request is closed then."""
    assert shop.ok("forget", "--subject", "s03")["state"] == "executed"
    outcome = shop.ok("forget", "--subject", "s03", "--delete-originals")
    assert (outcome["state"], outcome["originals_left"]) == ("closed", 0)
    assert predicate_of(Path(outcome["certificate"]))["state"] == "closed"
    assert not list(shop.data.rglob("s03_*"))


def test_delete_originals_stays_in_the_folder(nursery: Nursery, tmp_path: Path) -> None:
    """What lies elsewhere, behind a link to a folder, is somebody else's to delete; the request says so."""
    shop = world.untrained(nursery, tmp_path / "shop")
    outside = tmp_path / "archive"
    for path in ("images", "labels"):
        shutil.move(shop.data / path / "train", outside / path)
        (shop.data / path / "train").symlink_to(outside / path, target_is_directory=True)
    shop.ok(*world.ADD)
    shop.ok(*world.TRAIN)
    outcome = shop.ok("forget", "--subject", "s03", "--delete-originals")
    assert len(list(outside.rglob("s03_*"))) == 6
    assert (outcome["state"], outcome["originals_left"]) == ("executed", 6)


def test_delete_originals_spares_a_shared_label(nursery: Nursery, tmp_path: Path) -> None:
    """Two images of one name share a label file: it stays while one of them is retained."""
    shop = world.untrained(nursery, tmp_path / "shop")
    twin = shop.data / "images/train/s03_1.bmp"
    scenes.draw(shop.data, "images/train/twin.png").rename(twin.with_suffix(".jpg"))
    shop.ok(*world.ADD)
    shop.ok(*world.TRAIN)
    outcome = shop.ok("forget", "--subject", "s03", "--delete-originals")
    assert scenes.label_of(shop.data, "images/train/s03_1.png").is_file()
    assert twin.with_suffix(".jpg").is_file()
    assert (outcome["state"], outcome["originals_left"]) == ("closed", 0)
    assert shop.ok("verify", "m", "--replay")["valid"]


def test_delete_originals_spares_a_new_picture_under_an_old_name(nursery: Nursery, tmp_path: Path) -> None:
    """The subject was in a picture that was replaced since by one of somebody else."""
    shop = world.untrained(nursery, tmp_path / "shop")
    path = "images/train/s03_1.png"
    scenes.draw(shop.data, path, like="something else")
    table = shop.data / "subjects.csv"
    table.write_text(table.read_text().replace(f"{path},s03", f"{path},s04"))
    assert shop.ok(*world.ADD)["dataset"] == "shop@2"
    shop.ok(*world.TRAIN)
    outcome = shop.ok("forget", "--subject", "s03", "--delete-originals")
    assert outcome["samples"] == 3
    assert (shop.data / path).is_file()
    assert scenes.label_of(shop.data, path).is_file()
    assert not (shop.data / "images/train/s03_0.png").exists()
    assert outcome["state"] == "closed"
    assert shop.ok("verify", "m", "--replay")["valid"]


def test_a_model_left_out_keeps_the_request_open(two_models: Shop) -> None:
    """As long as a live model holds the person's data, the catalog must know what it has to forget."""
    outcome = two_models.ok("forget", "--subject", "s03", "--model", "m", "--delete-originals")
    assert (outcome["state"], outcome["originals_left"]) == ("executed", 0)
    assert two_models.sql("SELECT count(*) FROM sample WHERE removal = 'erased'") == [(3,)]
    two_models.ok("repair")
    assert two_models.sql("SELECT state FROM request") == [("closed",)]
    assert two_models.sql("SELECT count(*) FROM sample WHERE removal = 'erased'") == [(0,)]
    assert predicate_of(Path(outcome["certificate"]))["state"] == "closed"
