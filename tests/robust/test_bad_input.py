# SPDX-License-Identifier: Apache-2.0
"""Bad input at the command line: a clear error, exit code 2, and nothing changed."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from robust import scenes, world
from robust.commands import Shop


@contextmanager
def nothing_changes(shop: Shop) -> Iterator[None]:
    """Neither the catalog nor any file."""
    before = shop.state()
    yield
    after = shop.state()
    assert after[0] == before[0]
    assert after[1] == before[1]


FORGETS = {
    "an unknown subject": (["--subject", "s99"], "s99"),
    "an unknown sample": (["--sample", "images/train/nobody.png"], "nobody.png"),
    "a sample of another folder": (["--sample", "/etc/hostname"], "hostname"),
    "one unknown among known": (["--subject", "s01", "--subject", "s98"], "s98"),
    "an unknown dataset": (["--subject", "s01", "--dataset", "shelf"], "shelf"),
    "an unknown model": (["--subject", "s01", "--model", "nobody"], "nobody"),
    "an unknown class": (["--class", "cat"], "cat"),
    "nothing at all": ([], "selects nothing"),
    "a method that there is not": (["--subject", "s01", "--method", "magic"], "magic"),
    "a list that is missing": (["--from", "missing.txt"], "missing.txt"),
    "a list that is empty": (["--from", "empty.txt"], "empty"),
    "a list of blank lines": (["--from", "blank.txt"], "empty"),
    "a list that is no text": (["--from", "binary.txt"], "binary.txt"),
    "a list with an unknown line": (["--from", "list.txt"], "s97"),
    "everybody at all": ([word for s in scenes.PEOPLE for word in ("--subject", s)], "left to train"),
    "an unknown option": (["--subject", "s01", "--everything"], "--everything"),
    "an id without its option": (["s01"], "s01"),
}


@pytest.fixture
def lists(shop: Shop) -> Shop:
    """A shop with lists of several kinds beside it."""
    (shop.folder / "empty.txt").touch()
    (shop.folder / "blank.txt").write_text("\n  \n\t\n")
    (shop.folder / "binary.txt").write_bytes(b"\xff\xfe\x00s01")
    (shop.folder / "list.txt").write_text("s01\ns97\n")
    return shop


@pytest.mark.parametrize("case", FORGETS)
def test_forget_refuses(lists: Shop, case: str) -> None:
    argv, named = FORGETS[case]
    if case == "everybody at all":  # also the samples that show nobody
        argv = [*argv, "--sample", "images/train/free_0.png", "--sample", "images/train/free_1.png"]
    with nothing_changes(lists):
        error = lists.refused("forget", *argv)
        assert named in error["error"] + error["reason"], error
        if case != "everybody at all":
            lists.refused("forget", *argv, "--dry-run")


def test_a_list_is_accepted(lists: Shop) -> None:
    """Negative control of the lists above: one in which every line is known, with a BOM."""
    (lists.folder / "list.txt").write_text("\ufeffs01\n\nimages/train/s02_0.png\n", encoding="utf-8")
    assert lists.ok("forget", "--from", "list.txt", "--dry-run")["samples"] == 4


OTHERS = {
    "train: an unknown dataset": (["train", "shelf", *world.TRAIN[2:]], "shelf"),
    "train: an unknown version": (["train", "shop@7", *world.TRAIN[2:]], "shop@7"),
    "train: no name": (["train", "shop", "--weights", "nano.yaml"], "--name"),
    "train: a bad name": (["train", "shop", "--name", "../m", "--weights", "nano.yaml"], "../m"),
    "train: an unknown setting": ([*world.TRAIN, "--set", "colour=red"], "colour"),
    "train: a setting without value": ([*world.TRAIN, "--set", "lr0"], "lr0"),
    "train: a setting that is no number": ([*world.TRAIN, "--set", "lr0=fast"], "lr0"),
    "train: a setting out of range": ([*world.TRAIN, "--set", "lr0=-1"], "lr0"),
    "train: an unknown optimizer": ([*world.TRAIN, "--set", "optimizer=Magic"], "optimizer"),
    "train: an augmentation that is no number": ([*world.TRAIN, "--set", "fliplr=often"], "fliplr"),
    "train: an augmentation out of range": ([*world.TRAIN, "--set", "fliplr=2"], "fliplr"),
    "train: an odd size": ([*world.TRAIN[:-4], "--imgsz", "50"], "50"),
    "train: no shards": ([*world.TRAIN, "--shards", "0"], "shards"),
    "train: another device": ([*world.TRAIN, "--device", "0"], "CPU"),
    "train: weights that are not there": (["train", "shop", "--name", "n", "--weights", "no.pt"], "no.pt"),
    "train: an architecture that is not there": (
        ["train", "shop", "--name", "n", "--weights", "no.yaml"], "no.yaml",
    ),
    "train: a plan that is not there": (["train", "shop", "--name", "n", "--plan", "no.json"], "no.json"),
    "plan: an unknown dataset": (["plan", "shelf", "--weights", "nano.yaml"], "shelf"),
    "adopt: weights that are not there": (["adopt", "no.pt", "--data", "shop", "--name", "n"], "no.pt"),
    "data show: an unknown dataset": (["data", "show", "shelf"], "shelf"),
    "data export: a folder that is not empty": (["data", "export", "shop", "data"], "data"),
    "models: an unknown model": (["models", "nobody"], "nobody"),
    "repair: an unknown model": (["repair", "nobody"], "nobody"),
    "status: weights that are not there": (["status", "no.pt"], "no.pt"),
    "verify: an unknown request": (["verify", "r-0000"], "r-0000"),
    "verify: an unknown model": (["verify", "nobody@1"], "nobody"),
    "verify: an unknown version": (["verify", "m@9"], "m@9"),
    "verify: no certificate": (["verify", "data/data.yaml"], "data.yaml"),
    "verify: a picture": (["verify", "data/images/train/s01_0.png"], "s01_0.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_commands_refuse(shop: Shop, case: str) -> None:
    argv, named = OTHERS[case]
    with nothing_changes(shop):
        error = shop.refused(*argv)
        assert named in error["error"] + error["reason"], error


def test_an_id_that_fits_two_datasets(shop: Shop) -> None:
    scenes.make(shop.folder / "data" / "second", without=["s05"])
    shop.ok("data", "add", "second", "data/second/data.yaml", "--subjects", "data/second/subjects.csv")
    for argv in (["--subject", "s01"], ["--sample", "images/train/s01_0.png"], ["--class", "disc"]):
        with nothing_changes(shop):
            error = shop.refused("forget", *argv)
            assert "several datasets" in error["error"]
            assert "shop" in error["reason"]
            assert "second" in error["reason"]
    with nothing_changes(shop):
        assert "several datasets" in shop.refused("forget", "--subject", "s01", "--subject", "s05")["error"]
    assert shop.ok("forget", "--subject", "s01", "--dataset", "second", "--defer")["dataset"] == "second@2"
    assert shop.ok("forget", "--subject", "s01", "--dry-run")["dataset"] == "shop@1", "now only one has it"


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def make_weights(kind: str, shop: Shop, mark: Path) -> Path:
    """Write a file that is no fit weights; ``mark`` is what an executed one would make."""
    good = next((shop.root / "models").rglob("*.pt")).read_bytes()
    file = shop.folder / "bad.pt"
    if kind == "text":
        file.write_text("these are not weights\n")
    elif kind == "empty":
        file.touch()
    elif kind == "truncated":
        file.write_bytes(good[: len(good) // 2])
    elif kind == "a zip of something else":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif kind == "a picture":
        file.write_bytes((shop.data / "images" / "val" / "0.png").read_bytes())
    elif kind == "a folder":
        file.mkdir()
    elif kind == "an evil pickle":
        file.write_bytes(pickle.dumps({"model": Evil(mark)}))
    elif kind == "an evil checkpoint":
        with zipfile.ZipFile(io.BytesIO(good)) as original, zipfile.ZipFile(file, "w") as archive:
            for name in original.namelist():
                evil = name.endswith("data.pkl")
                archive.writestr(name, pickle.dumps({"ema": Evil(mark)}) if evil else original.read(name))
    else:
        shop.call(__file__, "save", kind=kind, target=str(file))
    return file


def save(kind: str, target: str) -> None:
    """Write what only torch can write."""
    import torch

    linear = torch.nn.Linear(2, 2)
    if kind == "TorchScript":
        torch.jit.script(linear).save(target)
    elif kind == "bare tensors":
        torch.save(linear.state_dict(), target)
    elif kind == "another model":
        torch.save({"model": linear}, target)


KINDS = (
    "text", "empty", "truncated", "a zip of something else", "a picture", "a folder", "an evil pickle",
    "an evil checkpoint", "TorchScript", "bare tensors", "another model",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_none(shop: Shop, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "executed"
    file = make_weights(kind, shop, mark)
    with nothing_changes(shop):
        for argv in (
            ["train", "shop", "--name", "n", *world.TRAIN[6:], "--weights", file.name],
            ["plan", "shop", "--weights", file.name],
            ["adopt", file.name, "--data", "shop", "--name", "n"],
            ["status", file.name],
        ):
            error = shop.refused(*argv)
            assert file.name in error["error"], error
            if "evil" in kind:
                assert "allow-list" in error["reason"], error
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["an evil pickle", "an evil checkpoint"])
def test_the_evil_weights_are_evil(shop: Shop, tmp_path: Path, kind: str) -> None:
    """Negative control: read without care, they do make the file."""
    mark = tmp_path / "executed"
    shop.call(__file__, "read_without_care", source=str(make_weights(kind, shop, mark)))
    assert mark.exists()


def read_without_care(source: str) -> None:
    """What nobody should do."""
    import torch

    with suppress(RuntimeError):  # it is no checkpoint, but that is found out too late
        torch.load(source, weights_only=False)


PLANS = {
    "no JSON": ("not a plan", lambda plan: "epochs: 3"),
    "a list": ("not a plan", lambda plan: "[]"),
    "an unknown field": ("not a plan", lambda plan: json.dumps({**plan, "magic": 1})),
    "a missing field": ("not a plan", lambda plan: json.dumps({k: plan[k] for k in plan if k != "seed"})),
    "another format": ("not a plan", lambda plan: json.dumps({**plan, "format": "expunge-plan/9"})),
    "an impossible placement": ("not a plan", lambda plan: json.dumps({**plan, "shards": 1})),
    "another task": ("classify", lambda plan: json.dumps({**plan, "task": "classify"})),
    "an unknown task": ("dance", lambda plan: json.dumps({**plan, "task": "dance"})),
    "other classes": ("disc", lambda plan: json.dumps({**plan, "names": ["box", "cat"]})),
    "other initial weights": (
        "initial weights",
        lambda plan: json.dumps({**plan, "initial": {**plan["initial"], "tensors": "sha256:00"}}),
    ),
    "an impossible augmentation": (
        "fliplr",
        lambda plan: json.dumps(
            {**plan, "recipe": {**plan["recipe"], "augment": {**plan["recipe"]["augment"], "fliplr": 7}}}
        ),
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_plans_that_do_not_fit(shop: Shop, case: str) -> None:
    named, change = PLANS[case]
    plan = json.loads(world.plan_of(shop).read_text())
    (shop.folder / "other.json").write_text(change(plan))
    with nothing_changes(shop):
        error = shop.refused("train", "shop", "--name", "n", "--plan", "other.json")
        assert named in error["error"] + error["reason"], error


def test_a_name_of_another_task(shop: Shop) -> None:
    """A model keeps its task; and the plan of the refused training is not left behind."""
    shop.sql("UPDATE model SET task = 'classify'")
    with nothing_changes(shop):
        error = shop.refused(*world.TRAIN[:-1], "5")
        assert "classify" in error["error"]
        assert "detect" in error["reason"]


def test_a_dataset_of_another_kind(shop: Shop) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            scenes.draw(shop.folder / "classes", f"{split}/{name}/0.png")
    shop.ok("data", "add", "classes", "classes")
    with nothing_changes(shop):
        assert "detect" in shop.refused("train", "classes", "--name", "n", *world.TRAIN[4:])["error"]
        plan = str(world.plan_of(shop))
        error = shop.refused("train", "classes", "--name", "n", "--plan", plan)
        assert "detect" in error["error"] + error["reason"], error


def test_an_adopted_model_in_the_way(shop: Shop) -> None:
    """Nothing is known of its training: whoever asks for more is told so before anything is changed."""
    (weights,) = shop.sql("SELECT weights FROM model_version")[0]
    shop.ok("adopt", str(shop.root / weights), "--data", "shop", "--name", "found")
    with nothing_changes(shop):
        error = shop.refused("forget", "--subject", "s03", "--method", "exact")
        assert "found@1" in error["error"]
        assert "adopted" in error["reason"]
        retrain = shop.refused("forget", "--subject", "s03", "--model", "found", "--method", "retrain")
        assert "training epochs" in retrain["error"]
        only = shop.refused("forget", "--subject", "s03", "--model", "m", "--method", "finetune")
        assert "trained erasable" in only["error"]
    assert shop.ok("forget", "--subject", "s03", "--model", "m")["models"][0]["digest"]


def pretend_other_environment(shop: Shop) -> None:
    """Let the catalog say that the checkpoints were made elsewhere."""
    for key, text in shop.sql("SELECT key, fingerprint FROM checkpoint"):
        other = {**json.loads(text), "torch": "1.0", "processor": "abacus"}
        shop.sql("UPDATE checkpoint SET fingerprint = ? WHERE key = ?", json.dumps(other), key)


@pytest.mark.parametrize("deferred", [False, True])
def test_another_environment(shop: Shop, undisturbed: Any, deferred: bool) -> None:
    """Nothing is published as exact across environments; a retrain is, and gives a fresh training's bytes."""
    if deferred:
        shop.ok("forget", "--subject", "s03", "--defer")
    pretend_other_environment(shop)
    refused = [["repair"]] if deferred else [["forget", "--subject", "s03"], [*world.FORGET, "--defer"]]
    for argv in refused:
        with nothing_changes(shop):
            error = shop.refused(*argv)
            assert "environment" in error["error"]
            assert "processor" in error["reason"]
            assert "abacus" in error["reason"]
            assert "--method retrain" in error["next"]
    published = len(shop.ok("models", "m")["models"])
    shop.ok(*world.FORGET, "--method", "retrain")
    assert world.newest(shop) == undisturbed.forgotten
    assert len(shop.ok("models", "m")["models"]) == published + 1, "no interim from elsewhere"
    assert shop.ok("verify", "m", "--replay")["valid"]
    assert shop.ok("forget", "--subject", "s04")["models"][0]["digest"], "all is of this environment now"


def test_a_retrain_killed_in_another_environment(shop: Shop, undisturbed: Any) -> None:
    """The promise to retrain survives the process that made it."""
    pretend_other_environment(shop)
    fault = {"do": "kill", "match": r"checkpoints/.*safetensors$", "operations": ["unlink"]}
    shop.run(*world.FORGET, "--method", "retrain", fault=fault)
    shop.ok(*world.FORGET, "--method", "retrain")
    assert world.newest(shop) == undisturbed.forgotten


def change_a_pixel(file: Path) -> bytes:
    """Change one pixel of an image; returns the bytes before."""
    before = file.read_bytes()
    with Image.open(file) as picture:
        image = picture.convert("RGB")
    red, green, blue = image.getpixel((0, 0))  # type: ignore[misc]
    image.putpixel((0, 0), ((red + 1) % 256, green, blue))
    image.save(file)
    return before


@pytest.mark.parametrize("what", ["pixel", "gone", "label"])
def test_a_retained_file_changed(shop: Shop, undisturbed: Any, what: str) -> None:
    """The repair stops with the file's name and publishes nothing; restored, the request is finished."""
    cells = shop.ok("forget", "--subject", "s03", "--dry-run")["models"][0]["map"]
    assert any(cell["retrained"] for cell in cells)
    files = {}
    for image in sorted((shop.data / "images" / "train").iterdir()):
        if not image.name.startswith("s03"):
            file = image if what != "label" else scenes.label_of(shop.data, f"images/train/{image.name}")
            files[file] = change_a_pixel(file) if what == "pixel" else file.read_bytes()
            if what == "gone":
                file.unlink()
            elif what == "label":
                file.write_text("0 0.5 0.5 0.1 0.1\n")
    error = shop.refused("forget", "--subject", "s03")
    assert "images/train/" in error["error"], error
    newest = shop.ok("models", "m")["models"][-1]
    assert newest["guarantee"] == "exact-interim", "made of checkpoints alone, before the repair"
    assert newest["digest"] == undisturbed.interim
    assert "images/train/" in shop.refused("repair")["error"]
    assert shop.ok("models", "m")["models"][-1] == newest
    for file, content in files.items():
        file.write_bytes(content)
    (request,) = shop.ok("repair")["requests"]
    assert request["state"] == "executed"
    assert world.newest(shop) == undisturbed.forgotten
    assert shop.ok("verify", request["request"])["valid"]


def test_a_changed_pixel_stops_the_replay(shop: Shop) -> None:
    assert shop.ok("verify", "m", "--replay")["valid"]
    file = shop.data / "images" / "train" / "s01_0.png"
    before = change_a_pixel(file)
    with nothing_changes(shop):
        assert "s01_0.png" in shop.refused("verify", "m", "--replay")["error"]
    file.write_bytes(before)
    assert shop.ok("verify", "m", "--replay")["valid"]


def test_a_changed_validation_image(shop: Shop, undisturbed: Any) -> None:
    """It cannot enter the weights, and holds up nobody: it is left out of the metrics on both sides."""
    change_a_pixel(shop.data / "images" / "val" / "0.png")
    (entry,) = shop.ok("forget", "--subject", "s03")["models"]
    before, after = entry["metrics_before"], entry["metrics_after"]
    assert (before["images"], before["left_out"]) == (after["images"], after["left_out"]) == (5, 1)
    assert world.newest(shop) == undisturbed.forgotten
    assert {state for (state,) in shop.sql("SELECT state FROM request")} == {"executed"}
