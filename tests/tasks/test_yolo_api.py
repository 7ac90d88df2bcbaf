# SPDX-License-Identifier: AGPL-3.0-or-later
"""``YOLO(...).unlearn(...)``: its arguments, results and errors."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
import yaml
from tasks import yolo_kit

from expunge import YOLO
from expunge.errors import InputError
from expunge.tasks.weights import state_of

EASY = {
    "method": "finetune",
    "epochs": 1,
    "batch": 4,
    "lr": 1e-3,
    "allowed_drop": 1.0,
    "budget": 1.0,
    "progress": False,
}


@pytest.fixture(scope="module", params=["detect", "classify"])
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a model of either task, with its data and a table of subjects."""
    made = yolo_kit.make(tmp_path_factory.mktemp(request.param), request.param)
    world = worlds.World(made.scan.root, made.scan.root, people(made))
    world.tables()
    return made


def people(made: yolo_kit.Kit) -> dict[str, tuple[str, ...]]:
    rows = [s for s in made.scan.samples if s.split == "train"]
    return {s.path: (f"p{i % 3}",) for i, s in enumerate(rows)}


def source(made: yolo_kit.Kit) -> Path:
    return made.scan.root / "data.yaml" if made.opened.task == "detect" else made.scan.root


def run(made: yolo_kit.Kit, forget: Any, **changes: Any) -> Any:
    return YOLO(made.weights).unlearn(source(made), forget, **{**EASY, **changes})


def test_every_form_of_the_forget_selection(each: yolo_kit.Kit, tmp_path: Path) -> None:
    path = each.data.samples[0].path
    listed = tmp_path / "forget.txt"
    listed.write_text(f"{path}\n")
    results = [
        run(each, [path]),
        run(each, listed),
        run(each, [each.scan.root / path]),
    ]
    states = [r.model.state_dict() for r in results]
    assert all(torch.equal(v, s[k]) for s in states[1:] for k, v in states[0].items())
    one = run(each, ["p0"], subjects=each.scan.root / "subjects.csv")
    theirs = {s.image_digest for s in each.data.samples if people(each)[s.path] == ("p0",)}
    copies = [s for s in each.data.samples if s.image_digest in theirs]  # byte-identical files are included
    assert one.metrics["before"]["forget"]["n"] == len(copies)
    assert run(each, None, classes="box").audit.figures[0]["name"] == "class_named"


def test_the_model_and_the_data_do_not_change(each: yolo_kit.Kit) -> None:
    files = {f: f.read_bytes() for f in each.scan.root.rglob("*") if f.is_file()}
    model = YOLO(each.weights)
    before = copy.deepcopy(model.model.state_dict())
    flags = [p.requires_grad for p in model.model.parameters()]
    result = model.unlearn(source(each), [each.data.samples[0].path], **EASY)
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())
    assert [p.requires_grad for p in model.model.parameters()] == flags
    assert any(not torch.equal(v, before[k]) for k, v in result.model.state_dict().items())
    assert {f: f.read_bytes() for f in each.scan.root.rglob("*") if f.is_file()} == files  # no label cache
    assert result.cost == pytest.approx(1 / yolo_kit.RECORD["epochs"], abs=1e-5)


def test_saved_models_load_in_plain_ultralytics_and_here(each: yolo_kit.Kit, tmp_path: Path) -> None:
    import ultralytics

    result = run(each, [each.data.samples[0].path])
    saved = result.save(tmp_path / "unlearned.pt")
    assert all(torch.equal(v, result.model.state_dict()[k]) for k, v in state_of(saved).items())
    plain = ultralytics.YOLO(str(saved))
    assert len(plain.predict(str(each.scan.root / each.data.samples[1].path), imgsz=64, verbose=False)) == 1
    again = YOLO(saved).unlearn(source(each), [each.data.samples[1].path], **EASY)
    assert again.cost == pytest.approx(
        1 / yolo_kit.RECORD["epochs"], abs=1e-5
    )  # the file contains the training record
    with pytest.raises(InputError, match="cannot be saved"):
        result.save(tmp_path / "unlearned.onnx")


@pytest.mark.parametrize(
    ("forget", "changes", "what"),
    [
        (["none.png"], {}, "unknown"),
        (["/elsewhere/none.png"], {}, "outside the dataset"),
        ([], {}, "empty"),
        (None, {}, "What is to be forgotten"),
        (None, {"classes": "cow"}, "no class 'cow'"),
        (["p0"], {}, "unknown"),  # subjects require their table
        (["first"], {"method": "magic"}, "no method"),
        (["first"], {"method": "auto"}, "setting of one method"),
        (["first"], {"speed": 3}, "no hyper-parameter"),
        (["first"], {"device": "abacus"}, "no device"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_invalid_arguments_are_refused(
    each: yolo_kit.Kit, forget: Any, changes: dict[str, Any], what: str
) -> None:
    named = [each.data.samples[0].path] if forget == ["first"] else forget
    with pytest.raises(InputError, match=what) as error:
        run(each, named, **changes)
    assert error.value.exit_code == 2
    assert error.value.next_step


def test_data_of_another_task_or_of_other_classes(
    each: yolo_kit.Kit, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = yolo_kit.make(
        tmp_path_factory.mktemp("other"), "classify" if each.opened.task == "detect" else "detect"
    )
    with pytest.raises(InputError, match="not made for"):
        YOLO(each.weights).unlearn(source(other), [other.data.samples[0].path], **EASY)
    folder = tmp_path_factory.mktemp("renamed") / "data"
    shutil.copytree(each.scan.root, folder)
    if each.opened.task == "detect":
        content = yaml.safe_load((folder / "data.yaml").read_text())
        (folder / "data.yaml").write_text(yaml.safe_dump({**content, "names": ["cow", "disc", "rare"]}))
        data = folder / "data.yaml"
    else:
        for split in ("train", "val"):
            os.rename(folder / split / "box", folder / split / "cow")
        data = folder
    with pytest.raises(InputError, match="does not know the class 'cow'"):
        YOLO(each.weights).unlearn(data, [each.data.samples[0].path.replace("box", "cow")], **EASY)


def test_non_finite_weights_are_refused(each: yolo_kit.Kit) -> None:
    model = YOLO(each.weights)
    with torch.no_grad():
        next(model.model.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(InputError, match="not numbers"):
        model.unlearn(source(each), [each.data.samples[0].path], **EASY)


class Bomb:
    """A pickle that writes a file if its code is run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def test_an_untrusted_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    with pytest.raises(InputError, match="cannot be used as weights"):
        YOLO(tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"batch": 0}, {"epochs": -1}, {"budget": 1e-4},
        {"budget": float("nan")}, {"retrain_epochs": 0}, {"tune": 0}, {"seed": -1},
        {"classes": ["box", "box"]}, {"classes": [0]}, {"classes": [True]}, {"classes": ["-1"]},
    ],
    ids=str,
)  # fmt: skip
def test_settings_without_effect_are_refused(each: yolo_kit.Kit, values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        run(each, [each.data.samples[0].path], **values)
    assert error.value.next_step


@pytest.mark.parametrize(("method", "values"), [("finetune", {"lr": 1e-30}), ("ssd", {"alpha": 1e30})])
def test_steps_that_change_nothing(
    each: yolo_kit.Kit, method: str, values: dict[str, Any], tmp_path: Path
) -> None:
    easy = {k: v for k, v in EASY.items() if method == "finetune" or k not in ("epochs", "batch", "lr")}
    path = [each.data.samples[0].path]
    for given in ({"forget": path}, {"classes": "box"}):
        result = YOLO(each.weights).unlearn(
            source(each),
            **given,
            **{**easy, "method": method, "accept_no_power": True, "budget": 9.0, **values},
        )
        assert result.verdict == "fail"
        assert result.reasons[0].startswith("Nothing was changed")
        with pytest.raises(InputError, match="not saved"):
            result.save(tmp_path / "unlearned.pt")
    assert not list(tmp_path.iterdir())


def test_the_reported_minimum_budget_suffices(each: yolo_kit.Kit) -> None:
    path = [each.data.samples[0].path]
    with pytest.raises(InputError, match="does not suffice") as error:
        run(each, path, budget=1e-3)
    named = float(error.value.next_step.split("at least ")[1].split(",")[0])
    assert run(each, path, budget=named).steps == 1
