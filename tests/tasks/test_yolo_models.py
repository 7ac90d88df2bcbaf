# SPDX-License-Identifier: AGPL-3.0-or-later
"""Opening, saving and retraining of detection and classification models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from tasks import yolo_kit
from torch.utils.data import ConcatDataset, Subset

from expunge.data.export import export_version
from expunge.data.types import Version
from expunge.errors import InputError
from expunge.tasks.baseline import provide_fonts
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.weights import build_module, open_source, pack
from expunge.tasks.yolo import open_model, save, write_model, yolo_task
from expunge.tasks.yolo_retrain import recorded_plan
from expunge.tasks.yolo_samples import rows_of

TASKS = ("detect", "classify")


@pytest.fixture(scope="module", params=TASKS)
def each(request: Any, tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a model of every task."""
    return yolo_kit.make(tmp_path_factory.mktemp(request.param), request.param)


def changed(each: yolo_kit.Kit) -> Any:
    """Return the model after a step on all trainable weights, by amounts below fp16 precision."""
    model = each.task.clone(each.opened.module)
    with torch.no_grad():
        for parameter in each.task.parameters(model).values():
            parameter.mul_(1 + 1e-5).add_(1e-6)
    return model


def test_the_training_record_is_read(each: yolo_kit.Kit) -> None:
    opened = each.opened
    assert (opened.names, opened.imgsz) == (("box", "disc", "rare"), yolo_kit.IMGSZ)
    assert opened.train_args == {"task": opened.task, **yolo_kit.RECORD}
    assert {v.dtype for v in opened.module.state_dict().values() if v.is_floating_point()} == {torch.float32}


def test_saved_models_load_in_plain_ultralytics_in_full_precision(each: yolo_kit.Kit, tmp_path: Path) -> None:
    model, path = changed(each), tmp_path / "unlearned.pt"
    save(model, path, each.opened)
    assert path.read_bytes() == write_model(model, each.opened), "equal weights, equal files"
    again = open_model(path)
    assert again.train_args == each.opened.train_args
    state = model.state_dict()
    assert yolo_kit.equal(again.module.state_dict(), state)
    half = {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}
    assert not yolo_kit.equal(half, state), "half precision would be detected"
    from ultralytics import YOLO

    plain = YOLO(str(path))
    assert yolo_kit.equal(plain.model.state_dict(), state)
    assert tuple(plain.names.values()) == each.opened.names
    image = each.scan.root / each.data.samples[0].path
    assert len(plain.predict(str(image), imgsz=yolo_kit.IMGSZ, verbose=False)) == 1
    version = Version(1, "shop", 1, "", each.scan.root, each.scan.config, 0, 0)
    exported = str(export_version(version, each.scan.samples, tmp_path / "export"))
    provide_fonts()
    common: dict[str, Any] = {"imgsz": yolo_kit.IMGSZ, "plots": False, "verbose": False, "workers": 0}
    YOLO(str(path)).val(data=exported, split="val", project=str(tmp_path), name="v", **common)
    trained = YOLO(str(path))
    trained.train(
        data=exported, epochs=1, batch=8, val=False, project=str(tmp_path), name="t", optimizer="SGD",
        nbs=8, warmup_epochs=0, **common,
    )  # fmt: skip
    assert not yolo_kit.equal(trained.model.state_dict(), state)
    stock = open_model(tmp_path / "t" / "weights" / "last.pt")
    assert (stock.task, stock.names, stock.imgsz) == (each.opened.task, each.opened.names, yolo_kit.IMGSZ)
    assert (stock.train_args["epochs"], stock.train_args["optimizer"]) == (1, "SGD")
    task = yolo_task(stock)
    assert torch.isfinite(task.loss(task.clone(stock.module), each.batch(0, 1))).all()
    recipe = recorded_plan(stock, stock.module, 1, 0, {}).recipe
    assert (recipe.optimizer, recipe.batch, recipe.lr0) == ("SGD", 8, 0.01)


@pytest.mark.parametrize("kind", ["detect", "classify"])
def test_saved_models_export_to_onnx(kind: str, tmp_path: Path) -> None:
    """ONNX Runtime gives the same outputs for the export as torch for the model."""
    import numpy as np
    import onnxruntime
    from ultralytics import YOLO

    names = tuple(f"class {i}" for i in range(40))  # Ultralytics considers a file below 0.1 MB broken
    architecture = open_source(str(worlds.tiny_architecture(tmp_path, kind))).architecture
    torch.manual_seed(0)
    (tmp_path / "m.pt").write_bytes(
        pack(build_module(kind, {**architecture, "nc": 2}, names), {"task": kind})
    )
    opened = open_model(tmp_path / "m.pt")
    save(opened.module, tmp_path / "saved.pt", opened)
    plain = YOLO(str(tmp_path / "saved.pt"))
    file = plain.export(format="onnx", imgsz=yolo_kit.IMGSZ, simplify=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, 3, yolo_kit.IMGSZ, yolo_kit.IMGSZ), dtype=np.float32)
    (ours,) = session.run(None, {session.get_inputs()[0].name: x})[:1]
    with torch.no_grad():
        theirs = opened.module.eval()(torch.from_numpy(x))
    theirs = theirs[0] if isinstance(theirs, (list, tuple)) else theirs
    assert ours.shape == tuple(theirs.shape)
    assert np.allclose(ours, theirs.numpy(), atol=1e-3)


def test_a_model_loaded_by_plain_ultralytics_is_trainable(each: yolo_kit.Kit) -> None:
    """A model is trainable although ``YOLO(path)`` sets requires_grad to False for every parameter."""
    from ultralytics import YOLO

    loaded = YOLO(str(each.weights)).model
    assert not any(p.requires_grad for p in loaded.parameters())
    model = each.task.clone(loaded)
    each.task.loss(model, each.batch(0, 1)).sum().backward()
    assert all(p.requires_grad == (".dfl" not in name) for name, p in model.named_parameters())
    assert sum(p.grad is not None for p in model.parameters()) > len(list(model.parameters())) * 0.9


def written(folder: Path, module: Any, args: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint of a module."""
    from expunge.tasks.weights import pack

    path = folder / "bad.pt"
    path.write_bytes(pack(module, args or {}))
    return path


def test_non_finite_weights_are_refused(each: yolo_kit.Kit, tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        model = changed(each)
        with torch.no_grad():
            next(model.parameters()).view(-1)[3] = value
        with pytest.raises(InputError, match="not numbers"):
            open_model(written(tmp_path, model))


def test_fused_models_are_refused(each: yolo_kit.Kit, tmp_path: Path) -> None:
    model = each.task.clone(each.opened.module)
    model.fuse(verbose=False)
    with pytest.raises(InputError, match="fused"):
        open_model(written(tmp_path, model))


class Makes:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_code_in_a_file_runs_only_if_the_user_trusts_it(each: yolo_kit.Kit, tmp_path: Path) -> None:
    content = torch.load(each.weights, weights_only=False)
    path = tmp_path / "evil.pt"
    torch.save({**content, "date": Makes(tmp_path / "mark")}, path)
    with pytest.raises(InputError, match="cannot be used"):
        open_model(path)
    assert not (tmp_path / "mark").exists()
    assert open_model(path, unsafe_trust=True).names == each.opened.names
    assert (tmp_path / "mark").exists()


def test_other_tasks_are_refused_by_name(each: yolo_kit.Kit) -> None:
    with pytest.raises(InputError, match="'pose' are not supported"):
        yolo_task(LoadedModel(each.opened.module, "pose", (), 64, {}))


def retrained(each: yolo_kit.Kit, data: Any, seed: int, **settings: Any) -> dict[str, torch.Tensor]:
    """Return the weights after one epoch."""
    model = each.task.retrain(
        each.opened.module, data, epochs=1, generator=yolo_kit.seeded(seed), images=lambda n: None, **settings
    )
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def test_retraining_is_byte_identical(each: yolo_kit.Kit) -> None:
    outside = torch.get_rng_state()
    some = [0, 2, 3, 5, 6]
    first = retrained(each, Subset(each.data, some), 1)
    split = ConcatDataset([Subset(each.data, some[:2]), Subset(Subset(each.data, some), [2, 3, 4])])
    assert yolo_kit.equal(first, retrained(each, split, 1)), "the same samples, differently wrapped"
    assert not yolo_kit.equal(first, retrained(each, Subset(each.data, some), 2))
    assert not yolo_kit.equal(first, retrained(each, Subset(each.data, some[:4]), 1))
    assert torch.equal(outside, torch.get_rng_state())


def test_retraining_starts_from_scratch_or_from_given_weights(each: yolo_kit.Kit, tmp_path: Path) -> None:
    few = Subset(each.data, [0, 2])
    still = {"lr0": 1e-9, "weight_decay": 0.0}
    given = retrained(each, few, 1, initial=each.weights, **still)
    weights = {k: v for k, v in each.opened.module.state_dict().items() if k.endswith("weight")}
    assert all(torch.allclose(given[k], v, atol=1e-5) for k, v in weights.items())
    assert yolo_kit.equal(given, retrained(each, few, 1, initial=each.opened.module.state_dict(), **still))
    scratch = retrained(each, few, 1, **still)
    convolutions = [k for k, v in weights.items() if v.ndim > 1 and ".dfl" not in k]
    assert not any(torch.allclose(scratch[k], weights[k], atol=1e-3) for k in convolutions)


def test_progress_counts_every_image(each: yolo_kit.Kit) -> None:
    seen: list[int] = []
    each.task.retrain(
        each.opened.module,
        Subset(each.data, range(5)),
        epochs=2,
        generator=yolo_kit.seeded(),
        images=seen.append,
    )
    assert sum(seen) == 10
    assert max(seen) == 5, "batches of four; a remainder of one joins the batch before"


def test_the_plan_has_the_recorded_settings(each: yolo_kit.Kit) -> None:
    def plan(record: dict[str, Any], **settings: Any) -> Any:
        opened = LoadedModel(each.opened.module, each.opened.task, each.opened.names, 64, record)
        return recorded_plan(opened, opened.module, 3, 7, settings)

    recipe = plan({**yolo_kit.RECORD, "fliplr": 0.0, "freeze": 1, "save_dir": "runs"}).recipe
    assert (recipe.optimizer, recipe.lr0, recipe.batch, recipe.warmup_epochs) == ("AdamW", 0.01, 4, 0.0)
    assert recipe.augment["fliplr"] == 0.0
    if each.opened.task == "classify":
        assert plan({"auto_augment": None}).recipe.augment["auto_augment"] is None, "disabled in the record"
        assert plan({"auto_augment": "augmix"}).recipe.augment["auto_augment"] == "augmix"
        assert plan({}).recipe.augment["auto_augment"] == "randaugment"
    assert plan({"freeze": 1}).freeze == 1
    assert plan({"freeze": [0, 1]}).freeze == 2
    default = plan({}).recipe
    assert plan({"optimizer": "auto", "lr0": 0.5, "momentum": 0.1, "batch": -1}).recipe == default
    assert plan(yolo_kit.RECORD, lr0=0.02, batch=2).recipe.lr0 == 0.02
    for wrong in ({"lr": 0.1}, {"lr0": -1.0}, {"imgsz": 50}):
        with pytest.raises(InputError):
            plan(yolo_kit.RECORD, **wrong)
    with pytest.raises(InputError, match="not the first"):
        plan({"freeze": [1]})


def test_retraining_requires_samples_with_files(each: yolo_kit.Kit) -> None:
    for data in ([1, 2], Subset(each.data, [])):
        with pytest.raises(InputError):
            rows_of(data)


def test_a_fresh_model_keeps_recorded_frozen_layers(each: yolo_kit.Kit) -> None:
    record = {**each.opened.train_args, "freeze": 1}
    opened = LoadedModel(each.opened.module, each.opened.task, each.opened.names, 64, record)
    task = yolo_task(opened)
    fresh, again = (task.fresh(opened.module, yolo_kit.seeded(5)).state_dict() for _ in range(2))
    assert yolo_kit.equal(fresh, again)
    for name, value in opened.module.state_dict().items():
        if name.endswith("conv.weight") and ".dfl" not in name:
            assert torch.equal(fresh[name], value) == name.startswith("model.0.")
    few = Subset(each.data, [0, 2, 3])
    trained = task.retrain(
        opened.module, few, epochs=1, generator=yolo_kit.seeded(), images=lambda n: None
    ).state_dict()
    for name, value in opened.module.state_dict().items():
        if name.startswith("model.0.") and value.is_floating_point():
            assert torch.equal(trained[name], value), "statistics included"
