# SPDX-License-Identifier: AGPL-3.0-or-later
"""Metrics, files and labels, compared with plain Ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from expunge.data.export import export_version
from expunge.data.labels import read_boxes
from expunge.data.scan import scan
from expunge.data.types import Version
from expunge.errors import InputError
from expunge.exact.planner import Options, make_plan
from expunge.storage.hashing import tensor_digest
from expunge.tasks.base import get_task
from expunge.tasks.fusion import fuse
from expunge.tasks.weights import state_of
from expunge.training.checkpoint import State
from expunge.training.schedule import Stage
from expunge.training.trainer import Hooks, run_stage


def trained(folder: Path, task: str, epochs: int = 12) -> tuple[Any, Any, Any, dict[str, torch.Tensor]]:
    """Return a tiny trained model."""
    make = worlds.detection if task == "detect" else worlds.classification
    found = scan(make(folder / "data").source)
    version = Version(1, "shop", 1, "", found.root, found.config, 0, 0)
    rows = [s for s in found.samples if s.split == "train"]
    options = Options(
        str(worlds.tiny_architecture(folder, task)), 1, 1, epochs, 32, 4, settings={"lr0": "0.01"}
    )
    plan, initial = make_plan(options, version, rows, {})
    data = get_task(task).data(plan, found.config, found.root, rows)
    stage = Stage("shard", 0, epochs, epochs, 0.01, True)
    start = State(initial, dict(initial))
    state = run_stage(get_task(task), plan, start, stage, data, [s.path for s in rows], Hooks())
    return found, version, plan, state.ema


@pytest.mark.parametrize("task", [pytest.param("detect", marks=pytest.mark.slow), "classify"])
def test_metrics_equal_those_of_plain_ultralytics(tmp_path: Path, task: str) -> None:
    found, version, plan, state = trained(tmp_path, task, 60 if task == "detect" else 12)
    rows = [s for s in found.samples if s.split == "train"]
    ours = get_task(task).evaluate([state], plan, found.config, found.root, rows)
    weights = tmp_path / "m.pt"
    weights.write_bytes(get_task(task).deployable(state, plan))
    exported = export_version(version, found.samples, tmp_path / "export")
    from ultralytics import YOLO

    common: dict[str, Any] = {"imgsz": 32, "batch": 16, "plots": False, "verbose": False, "workers": 0}
    result = YOLO(str(weights)).val(
        data=str(exported), split="train", rect=False, project=str(tmp_path), name="v", **common
    )
    if task == "detect":
        assert ours["mAP50"] == pytest.approx(float(result.box.map50), abs=1e-4)
        assert ours["mAP50-95"] == pytest.approx(float(result.box.map), abs=1e-4)
        assert ours["mAP50"] > 0, "the model must have learned something"
    else:
        assert ours["top1"] == pytest.approx(float(result.top1), abs=1e-4)
        assert ours["top1"] > 0.4


@pytest.mark.parametrize("task", [pytest.param("detect", marks=pytest.mark.slow), "classify"])
def test_weights_can_be_loaded_and_trained_by_plain_ultralytics(tmp_path: Path, task: str) -> None:
    found, version, plan, state = trained(tmp_path, task, 1)
    weights = tmp_path / "m.pt"
    weights.write_bytes(get_task(task).deployable(state, plan))
    assert get_task(task).deployable(state, plan) == weights.read_bytes(), "equal weights, equal files"
    assert tensor_digest(state_of(weights)) == tensor_digest(state)
    from ultralytics import YOLO

    model = YOLO(str(weights))
    assert tensor_digest(model.model.state_dict()) == tensor_digest(state)
    assert list(model.names.values()) == list(plan.names)
    image = found.root / found.samples[0].path
    assert len(model.predict(str(image), imgsz=32, verbose=False)) == 1
    exported = export_version(version, found.samples, tmp_path / "export")
    model.train(
        data=str(exported), epochs=1, imgsz=64, batch=8, plots=False, verbose=False, workers=0,
        project=str(tmp_path), name="t", val=False,
    )  # fmt: skip
    assert (tmp_path / "t" / "weights" / "last.pt").is_file()


def test_boxes_keep_the_order_of_their_rows() -> None:
    polygon, pose = "0 0.1 0.1 0.3 0.1 0.2 0.5", "0 .5 .5 .2 .2 .5 .5 2 .6 .6 1"
    boxes = read_boxes("1 0.5 0.5 0.2 0.4\n\n1 0.5 0.5 0.2 0.4\n0 .5 .5 .2 .2\n", 2, "l.txt")
    # Ultralytics sorts and deduplicates the rows of a file with a duplicate row.
    assert np.allclose(boxes, [[0, 0.5, 0.5, 0.2, 0.2], [1, 0.5, 0.5, 0.2, 0.4]])
    assert np.allclose(read_boxes(polygon, 2, "l.txt"), [[0, 0.2, 0.3, 0.2, 0.4]])
    assert np.allclose(read_boxes(pose, 2, "l.txt", keypoint_values=6), [[0, 0.5, 0.5, 0.2, 0.2]])
    with pytest.raises(InputError, match="box, and other rows"):  # Ultralytics skips such a picture
        read_boxes(f"1 0.5 0.5 0.2 0.4\n{polygon}\n", 2, "l.txt")
    for bad in ("2 .5 .5 .1 .1", "0 .5 .5 .1", "x .5 .5 .1 .1", "0 1.5 .5 .1 .1", "0.5 .5 .5 .1 .1"):
        with pytest.raises(InputError, match="Line 1 of"):
            read_boxes(bad, 2, "l.txt")


def test_boxes_equal_those_that_ultralytics_reads(tmp_path: Path) -> None:
    world = worlds.detection(tmp_path)
    from ultralytics.data.utils import verify_image_label

    for image in sorted(world.root.glob("images/train/**/*.png")):
        label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        row = verify_image_label((str(image), str(label), "", False, 3, 0, 0, False))
        ours = read_boxes(label.read_text() if label.exists() else "", 3, "l")
        assert np.allclose(ours, row[1], atol=1e-6)


def test_fusion_keeps_equal_boxes_and_halves_the_confidence_of_single_ones() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    one = {"bboxes": boxes, "conf": torch.tensor([0.9, 0.5]), "cls": torch.tensor([0.0, 1.0])}
    same = fuse([one, one])
    assert torch.allclose(same["bboxes"], boxes)
    assert torch.allclose(same["conf"], one["conf"])
    none = {"bboxes": torch.zeros(0, 4), "conf": torch.zeros(0), "cls": torch.zeros(0)}
    assert torch.allclose(fuse([one, none])["conf"], one["conf"] / 2)
    moved = {**one, "bboxes": boxes + 1, "conf": torch.tensor([0.3, 0.5])}
    assert torch.allclose(fuse([one, moved])["bboxes"][0], boxes[0] + 0.25, atol=1e-5)
