# SPDX-License-Identifier: AGPL-3.0-or-later
"""Models whose training settings changed what labels mean: adopted, measured and unlearned on their data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from robust import scenes
from tasks import yolo_kit as kit

from expunge import YOLO, pipeline, training
from expunge.catalog import models as catalog
from expunge.catalog.datasets import add_version
from expunge.data.scan import scan
from expunge.errors import InputError
from expunge.progress import Progress
from expunge.steps.approximation import Settings
from expunge.tasks.class_map import class_indices, known_samples, settings_notes
from expunge.tasks.weights import build_module, open_source, pack
from expunge.tasks.yolo import open_model, samples_of, yolo_task
from expunge.workspace import Workspace

EASY: dict[str, Any] = {"method": "finetune", "epochs": 1, "batch": 4, "allowed_drop": 1.0, "budget": 5.0}


def weights_of(folder: Path, kind: str, names: tuple[str, ...], **record: Any) -> Path:
    """A tiny model with these classes and settings on record."""
    torch.manual_seed(1)
    architecture = open_source(str(scenes.architecture(folder, kind))).architecture
    module = build_module(kind, {**architecture, "nc": len(names)}, names)
    file = folder / "own.pt"
    file.write_bytes(pack(module, {"task": kind, **kit.RECORD, **record}))
    return file


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """A detection data set of three classes."""
    return worlds.detection(tmp_path / "data", people=4, each=2).source


def labels(file: Path, source: Path) -> list[float]:
    """All classes in the labels of the training samples, as the model sees them."""
    opened, found = open_model(file), scan(source)
    rows = [s for s in found.samples if s.split == "train"]
    data = samples_of(opened, found.root, found.config, rows)
    return torch.cat([data[i]["cls"] for i in range(len(data))]).flatten().tolist()


def test_all_classes_are_one(tmp_path: Path, boxes: Path) -> None:
    file = weights_of(tmp_path, "detect", ("item",), single_cls=True)
    seen = labels(file, boxes)
    assert set(seen) == {0.0}
    single, config = open_model(file), scan(boxes).config
    assert len(seen) == len(labels(weights_of(tmp_path, "detect", worlds.NAMES), boxes))
    with pytest.raises(InputError, match="single_cls"):
        class_indices(single, config, ["box"])
    plain = YOLO(weights_of(tmp_path, "detect", ("item",)))
    with pytest.raises(InputError, match="does not know the class"):
        plain.unlearn(boxes, ["images/train/p1/shot 0.png"], progress=False, **EASY)


def test_some_classes_alone(tmp_path: Path, boxes: Path) -> None:
    file = weights_of(tmp_path, "detect", worlds.NAMES, classes=[1])
    assert set(labels(file, boxes)) == {1.0}
    opened, config = open_model(file), scan(boxes).config
    assert class_indices(opened, config, ["disc"]) == (1,)
    with pytest.raises(InputError, match="not trained on labels of the class 'box'"):
        class_indices(opened, config, ["box"])


def test_what_is_on_record_is_said(tmp_path: Path, boxes: Path) -> None:
    found = scan(boxes)
    file = weights_of(tmp_path, "detect", ("item",), single_cls=True, classes=[0], fraction=0.5, rect=True)
    said = " ".join(settings_notes(open_model(file), found.config, found.samples))
    assert "single_cls" in said
    assert "only labels of box count" in said
    assert "fraction=0.5" in said
    plain = open_model(weights_of(tmp_path, "detect", worlds.NAMES, fraction=1.0))
    assert settings_notes(plain, found.config, found.samples) == []


def adopted(tmp_path: Path, file: Path, source: Path, say: Callable[[str], None]) -> Workspace:
    """A workspace with the data and the model."""
    workspace = Workspace.init(tmp_path / "w")
    with workspace.session(write=True) as session:
        add_version(session, "shop", scan(source), key=workspace.key)
    training.adopt(workspace, file, "shop", "own", say=say)
    return workspace


@pytest.mark.parametrize("method", ["finetune", "retrain"])
@pytest.mark.parametrize("record", [{"single_cls": True, "rect": True}, {"classes": [0, 1], "fraction": 0.5}])
def test_an_own_detector_is_adopted_and_unlearned(
    tmp_path: Path, boxes: Path, record: dict[str, Any], method: str
) -> None:
    names = ("item",) if "single_cls" in record else worlds.NAMES
    file, said = weights_of(tmp_path, "detect", names, **record), list[str]()
    workspace = adopted(tmp_path, file, boxes, said.append)
    assert len(said) == len([key for key in record if key != "rect"])
    ask = pipeline.Ask(samples=("images/train/p1/shot 0.png",), method=method,
                       settings=Settings(hyperparameters={"epochs": 1}, budget=5.0))  # fmt: skip
    outcome = pipeline.forget(workspace, ask, Progress(quiet=True))
    (entry,) = outcome["models"]
    with workspace.session() as session:
        first, *_ = catalog.history(session, "own")
        newest = catalog.find_model(session, "own")
    train = sum(s.split == "train" for s in scan(boxes).samples)
    assert first.samples == train, "whatever part it saw, it counts as having seen all of train"
    after = open_model(workspace.root / newest.weights)
    assert after.names == names
    assert entry["metrics_after"] is None or entry["metrics_after"]["images"] == 4
    assert {k: after.train_args[k] for k in record} == record


def test_a_classifier_knows_the_classes_of_train(tmp_path: Path) -> None:
    world = worlds.classification(tmp_path / "data", people=4, each=2)
    shutil.rmtree(world.root / "train" / "rare")
    found = scan(world.root)
    assert found.config.names == ("box", "disc", "rare")
    file, said = weights_of(tmp_path, "classify", ("box", "disc")), list[str]()
    workspace = adopted(tmp_path, file, world.root, said.append)
    assert said == ["2 held-out images are of classes that the model does not know; they are not used."]
    opened = open_model(file)
    rows = known_samples(opened, found.config, found.samples)
    assert {s.class_name for s in rows} == {"box", "disc"}
    data = samples_of(opened, found.root, found.config, [s for s in rows if s.split == "val"])
    task = yolo_task(opened)
    assert task.evaluate(task.clone(opened.module), data)["top1"] <= 1
    ask = pipeline.Ask(samples=("train/box/p1-1.png",), method="finetune",
                       settings=Settings(hyperparameters={"epochs": 1, "batch": 4}, budget=5.0))  # fmt: skip
    (entry,) = pipeline.forget(workspace, ask, Progress(quiet=True))["models"]
    assert entry["metrics_before"]["images"] == 4
    shutil.copytree(world.root / "val" / "rare", world.root / "train" / "rare")
    with pytest.raises(InputError, match="does not know the class 'rare'"):
        YOLO(file).unlearn(world.root, ["train/box/p1-1.png"], progress=False, **EASY)
