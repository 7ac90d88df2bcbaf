# SPDX-License-Identifier: AGPL-3.0-or-later
"""Models whose training settings change the meaning of labels, adopted, evaluated and unlearned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from robust import scenes
from tasks import yolo_kit

from expunge import YOLO
from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version
from expunge.data.scan import scan
from expunge.erasure import execution
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError
from expunge.models import training
from expunge.progress import Progress
from expunge.tasks.class_map import class_indices, known_samples, settings_notes
from expunge.tasks.weights import build_module, open_source, pack
from expunge.tasks.yolo import open_model, samples_of, yolo_task
from expunge.workspace import Workspace

EASY: dict[str, Any] = {"method": "finetune", "epochs": 1, "batch": 4, "allowed_drop": 1.0, "budget": 5.0}


def weights_of(folder: Path, kind: str, names: tuple[str, ...], **record: Any) -> Path:
    """Write a tiny model with given classes and recorded settings."""
    torch.manual_seed(1)
    architecture = open_source(str(scenes.architecture(folder, kind))).architecture
    module = build_module(kind, {**architecture, "nc": len(names)}, names)
    file = folder / "own.pt"
    file.write_bytes(pack(module, {"task": kind, **yolo_kit.RECORD, **record}))
    return file


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Return a detection data set with three classes."""
    return worlds.detection(tmp_path / "data", people=4, each=2).source


def labels(file: Path, source: Path) -> list[float]:
    """Return the classes in the labels of the training samples, as the model sees them."""
    opened, found = open_model(file), scan(source)
    rows = [s for s in found.samples if s.split == "train"]
    data = samples_of(opened, found.root, found.config, rows)
    return torch.cat([data[i]["cls"] for i in range(len(data))]).flatten().tolist()


def test_single_cls_merges_all_classes(tmp_path: Path, boxes: Path) -> None:
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


def test_a_restriction_to_some_classes(tmp_path: Path, boxes: Path) -> None:
    file = weights_of(tmp_path, "detect", worlds.NAMES, classes=[1])
    assert set(labels(file, boxes)) == {1.0}
    opened, config = open_model(file), scan(boxes).config
    assert class_indices(opened, config, ["disc"]) == (1,)
    with pytest.raises(InputError, match="not trained on labels of the class 'box'"):
        class_indices(opened, config, ["box"])


def test_recorded_settings_are_reported(tmp_path: Path, boxes: Path) -> None:
    found = scan(boxes)
    file = weights_of(tmp_path, "detect", ("item",), single_cls=True, classes=[0], fraction=0.5, rect=True)
    notes = " ".join(settings_notes(open_model(file), found.config, found.samples))
    assert "single_cls" in notes
    assert "only labels of box count" in notes
    assert "fraction=0.5" in notes
    plain = open_model(weights_of(tmp_path, "detect", worlds.NAMES, fraction=1.0))
    assert settings_notes(plain, found.config, found.samples) == []


def adopted(tmp_path: Path, file: Path, source: Path, say: Callable[[str], None]) -> Workspace:
    """Return a workspace with the data and the adopted model."""
    workspace = Workspace.init(tmp_path / "w")
    with workspace.session(write=True) as session:
        add_version(session, "shop", scan(source), key=workspace.key)
    training.adopt(workspace, file, "shop", "own", say=say)
    return workspace


@pytest.mark.parametrize("method", ["finetune", "retrain"])
@pytest.mark.parametrize("record", [{"single_cls": True, "rect": True}, {"classes": [0, 1], "fraction": 0.5}])
def test_a_detector_is_adopted_and_unlearned(
    tmp_path: Path, boxes: Path, record: dict[str, Any], method: str
) -> None:
    names = ("item",) if "single_cls" in record else worlds.NAMES
    file, messages = weights_of(tmp_path, "detect", names, **record), list[str]()
    workspace = adopted(tmp_path, file, boxes, messages.append)
    assert len(messages) == len([key for key in record if key != "rect"])
    request = ErasureRequest(samples=("images/train/p1/shot 0.png",), method=method,
                       settings=MethodSettings(hyperparameters={"epochs": 1}, budget=5.0))  # fmt: skip
    outcome = execution.forget(workspace, request, Progress(quiet=True))
    (entry,) = outcome["models"]
    with workspace.session() as session:
        first, *_ = model_store.model_versions(session, "own")
        newest = model_store.find_model(session, "own")
    train = sum(s.split == "train" for s in scan(boxes).samples)
    assert first.samples == train, "with fraction, the model counts as trained on all of train"
    after = open_model(workspace.root / newest.weights)
    assert after.names == names
    assert entry["metrics_after"] is None or entry["metrics_after"]["images"] == 4
    assert {k: after.train_args[k] for k in record} == record


def test_a_classifier_knows_only_the_classes_of_train(tmp_path: Path) -> None:
    world = worlds.classification(tmp_path / "data", people=4, each=2)
    shutil.rmtree(world.root / "train" / "rare")
    found = scan(world.root)
    assert found.config.names == ("box", "disc", "rare")
    file, messages = weights_of(tmp_path, "classify", ("box", "disc")), list[str]()
    workspace = adopted(tmp_path, file, world.root, messages.append)
    assert messages == ["2 held-out images are of classes that the model does not know; they are not used."]
    opened = open_model(file)
    rows = known_samples(opened, found.config, found.samples)
    assert {s.class_name for s in rows} == {"box", "disc"}
    data = samples_of(opened, found.root, found.config, [s for s in rows if s.split == "val"])
    task = yolo_task(opened)
    assert task.evaluate(task.clone(opened.module), data)["top1"] <= 1
    settings = MethodSettings(hyperparameters={"epochs": 1, "batch": 4}, budget=5.0)
    request = ErasureRequest(samples=("train/box/p1-1.png",), method="finetune", settings=settings)
    (entry,) = execution.forget(workspace, request, Progress(quiet=True))["models"]
    assert entry["metrics_before"]["images"] == 4
    shutil.copytree(world.root / "val" / "rare", world.root / "train" / "rare")
    with pytest.raises(InputError, match="does not know the class 'rare'"):
        YOLO(file).unlearn(world.root, ["train/box/p1-1.png"], progress=False, **EASY)
