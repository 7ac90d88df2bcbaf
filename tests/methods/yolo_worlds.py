# SPDX-License-Identifier: AGPL-3.0-or-later
"""Worlds of tiny YOLO26 models: a sixteenth of the width, briefly trained, on pictures of 64 pixels."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import worlds
from methods.worlds import World
from torch import nn
from torch.utils.data import Subset

from expunge.data.scan import scan
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.weights import build_module, open_source
from expunge.tasks.yolo import yolo_task
from expunge.tasks.yolo_samples import YoloSamples

IMGSZ, EPOCHS, FROZEN = 64, 2, 2
PERSON = "p1"


def _yolo(kind: str) -> World:
    """Return a world in which a person is forgotten."""
    with tempfile.TemporaryDirectory() as folder:
        architecture = open_source(str(worlds.tiny_architecture(Path(folder), kind))).architecture
    # Kept until the process ends, since samples are read on access.
    root = Path(tempfile.mkdtemp(prefix="methods-"))
    draw = worlds.detection if kind == "detect" else worlds.classification
    drawn = draw(root, people=4, each=3, public=1)
    found = scan(drawn.source)
    names = found.config.names
    train_rows = [sample for sample in found.samples if sample.split == "train"]
    data = YoloSamples(found.root, found.config, train_rows, names, IMGSZ)
    leaves = [i for i, sample in enumerate(train_rows) if PERSON in drawn.subjects.get(sample.path, ())]
    stays = [i for i in range(len(data)) if i not in leaves]
    unseen = YoloSamples(
        found.root, found.config, [s for s in found.samples if s.split == "val"], names, IMGSZ
    )
    torch.manual_seed(0)
    module = build_module(kind, {**architecture, "nc": len(names)}, names)
    record = {"imgsz": IMGSZ, "batch": 8, "lr0": 0.002, "optimizer": "AdamW"}
    opened = LoadedModel(module, kind, names, IMGSZ, record)
    task = yolo_task(opened)

    def train(samples: Samples, epochs: int, by: int) -> nn.Module:
        return task.retrain(
            module,
            samples,
            epochs=epochs,
            generator=torch.Generator().manual_seed(by),
            images=lambda count: None,
        )

    original, checkpoint = train(data, EPOCHS, 0), train(data, 1, 0)

    def freeze() -> tuple[Task, nn.Module, list[str]]:
        # Recorded, as after a training with frozen layers, which a retrain keeps as well.
        frozen = yolo_task(replace(opened, train_args={**record, "freeze": FROZEN}))
        twin = frozen.clone(original)
        names = [name for name, p in twin.named_parameters() if not p.requires_grad and ".dfl" not in name]
        return frozen, twin, names

    return World(
        kind,
        task,
        original,
        Subset(data, leaves),
        Subset(data, stays),
        unseen,
        train,
        EPOCHS,
        checkpoint,
        freeze,
        brief=1,
    )


def detect() -> World:
    """Return a detector and a person to forget."""
    return _yolo("detect")


def classify() -> World:
    """Return a classifier and a person to forget."""
    return _yolo("classify")
