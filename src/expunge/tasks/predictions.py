# SPDX-License-Identifier: AGPL-3.0-or-later
"""Predictions of published models as plain arrays: class probabilities, or detected and labelled boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.data.types import DatasetConfig, Sample
from expunge.tasks.boxes import PictureBoxes
from expunge.tasks.detect_eval import detector
from expunge.tasks.fusion import fuse
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.yolo import samples_of, yolo_task

BATCH = 32


@torch.no_grad()
def class_probabilities(
    models: Sequence[LoadedModel],
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
    device: str = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the true classes (N,) and the predicted probabilities (N, K), in the model's order of classes.

    Args:
        models: One model, or the members of an ensemble, whose probabilities are averaged.
        root: Folder of the dataset.
        config: The dataset's configuration.
        samples: The samples.
        device: Device to compute on.
    """
    task = yolo_task(models[0], device)
    modules = [task.clone(loaded.module) for loaded in models]
    data = samples_of(models[0], root, config, samples)
    truth, probabilities = [], []
    for first in range(0, len(data), BATCH):
        batch = task.collate([data[i] for i in range(first, min(first + BATCH, len(data)))])
        predictions = [task.outputs(m, batch)["logits"].double().softmax(1) for m in modules]
        probabilities.append(torch.stack(predictions).mean(0).cpu().numpy())
        truth.append(batch["cls"].cpu().numpy())
    return np.concatenate(truth).astype(np.int64), np.concatenate(probabilities)


@torch.no_grad()
def detections(
    models: Sequence[LoadedModel],
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
    device: str = "cpu",
) -> list[PictureBoxes]:
    """Return for each image its labels, and all detections that ``YOLO.val`` evaluates.

    Args:
        models: One model, or the members of an ensemble, whose boxes are fused.
        root, config, samples, device: See :func:`class_probabilities`.

    Returns:
        Boxes in pixels of the image at the model's input size; labels in the order of the label files.
    """
    task: Any = yolo_task(models[0], device)
    modules: list[Any] = [task.clone(loaded.module).eval() for loaded in models]
    validator = detector(modules, models[0].names, task.device)
    data = samples_of(models[0], root, config, samples)
    pictures = []
    for first in range(0, len(data), BATCH // 2):
        batch = task.collate([data[i] for i in range(first, min(first + BATCH // 2, len(data)))])
        outputs = [validator.postprocess(module(batch["img"])) for module in modules]
        fused = (
            outputs[0] if len(outputs) == 1 else [fuse(list(parts)) for parts in zip(*outputs, strict=True)]
        )
        for i, found in enumerate(fused):
            label = validator._prepare_batch(i, batch)
            pictures.append(
                PictureBoxes(
                    _array(label["bboxes"], np.float64).reshape(-1, 4),
                    _array(label["cls"], np.int64),
                    _array(found["bboxes"], np.float64),
                    _array(found["conf"], np.float64),
                    _array(found["cls"], np.int64),
                )
            )
    return pictures


def _array(values: torch.Tensor, kind: type) -> Any:
    return values.cpu().numpy().astype(kind)
