# SPDX-License-Identifier: Apache-2.0
"""What suites of Ultralytics models share: training from scratch, as on record, without augmentation."""

from __future__ import annotations

from time import process_time
from typing import Any

import torch
from torch import nn

from benchmarks.methods.worlds import Trained
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.weights import build_module, open_source
from expunge.tasks.yolo import yolo_task

PLAIN: dict[str, Any] = {
    "optimizer": "AdamW", "lr0": 0.002, "lrf": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "scale": 0.0,
    "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
}  # fmt: skip
BOXES: dict[str, Any] = {"mosaic": 0.0, "translate": 0.0}
PICTURES: dict[str, Any] = {"erasing": 0.0, "auto_augment": None}


class YoloSuite:
    """An untrained Ultralytics model and its recipe.

    Args:
        weights: A source of the architecture.
        task: ``detect`` or ``classify``.
        names: Classes.
        epochs: Of every training.
        imgsz: Of the pictures, in pixels.
        batch: Samples in a batch.
        device: Where to work.
    """

    def __init__(
        self,
        weights: str,
        task: str,
        names: tuple[str, ...],
        *,
        epochs: int,
        imgsz: int,
        batch: int,
        device: str = "cpu",
    ) -> None:
        self.epochs, self.batch = epochs, batch
        torch.manual_seed(0)
        module = build_module(task, {**open_source(weights).architecture, "nc": len(names)}, names)
        record = {**PLAIN, **(BOXES if task == "detect" else PICTURES), "imgsz": imgsz, "batch": batch}
        self.opened = LoadedModel(module, task, names, imgsz, record)
        self.task: Task = yolo_task(self.opened, device)

    def train(self, samples: Samples, seed: int, early: int = 0) -> Trained:
        """Train from scratch.

        The checkpoint is the end of a shorter training, in place of an earlier state of the same one.
        """
        began = process_time()
        model = self._trained(samples, seed, self.epochs)
        seconds = process_time() - began
        return Trained(model, seconds, self._trained(samples, seed, early) if early else None)

    def _trained(self, samples: Samples, seed: int, epochs: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return self.task.retrain(
            self.opened.module, samples, epochs=epochs, generator=generator, images=lambda count: None
        )
