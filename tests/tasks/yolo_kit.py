# SPDX-License-Identifier: AGPL-3.0-or-later
"""Tiny Ultralytics models with data: a few convolutions below YOLO26's own heads, pictures of 64 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import worlds
from robust import scenes

from expunge.data.scan import scan
from expunge.data.types import Scan
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.weights import build_module, open_source, pack
from expunge.tasks.yolo import open_model, yolo_task
from expunge.tasks.yolo_samples import YoloSamples

IMGSZ = 64
HEADS = {
    "two heads": "end2end: True\nreg_max: 1\n",
    "two heads, bins": "end2end: True\nreg_max: 16\n",
    "one head": "end2end: False\nreg_max: 16\n",
}
RECORD = {"imgsz": IMGSZ, "batch": 4, "optimizer": "AdamW", "lr0": 0.01, "warmup_epochs": 0.0, "epochs": 3}


@dataclass
class Kit:
    """A model file, its task, and data."""

    opened: LoadedModel
    task: Any
    scan: Scan
    data: YoloSamples
    weights: Path

    def batch(self, *indices: int) -> dict[str, Any]:
        """Return the batch of some samples."""
        found: dict[str, Any] = self.task.collate([self.data[i] for i in indices])
        return found

    def boxed(self) -> list[int]:
        """Return the indices of samples with boxes."""
        return [i for i, s in enumerate(self.data.samples) if s.label_digest]

    def bare(self) -> int:
        """Return the index of a sample without boxes."""
        return next(i for i, s in enumerate(self.data.samples) if not s.label_digest)


def seeded(seed: int = 0) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def make(folder: Path, kind: str = "detect", heads: str = "two heads", record: Any = None) -> Kit:
    """Return a kit whose model has random weights and high confidences."""
    torch.set_num_threads(1)
    world = (worlds.detection if kind == "detect" else worlds.classification)(
        folder / "data", people=6, each=1
    )
    found = scan(world.source)
    names = found.config.names
    file = scenes.architecture(folder, kind)
    file.write_text(file.read_text().replace(HEADS["two heads"], HEADS[heads]))
    torch.manual_seed(1)
    module = build_module(kind, {**open_source(str(file)).architecture, "nc": len(names)}, names)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.mul_(0.05)  # so that the outputs depend on the pictures
        if kind == "detect" and name.endswith(".2.bias") and "cv3" in name:
            value.copy_(torch.linspace(-1.0, 0.0, len(value)))
    weights = folder / "model.pt"
    weights.write_bytes(pack(module, {"task": kind, **RECORD, **(record or {})}))
    opened = open_model(weights)
    rows = [s for s in found.samples if s.split == "train"]
    data = YoloSamples(found.root, found.config, rows, opened.names, opened.imgsz)
    return Kit(opened, yolo_task(opened), found, data, weights)


def statistics(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of the running statistics."""
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k or "num_batches" in k}


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Return whether all tensors are bit-identical."""
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
