# SPDX-License-Identifier: AGPL-3.0-or-later
"""What published models say of samples, as plain arrays: class probabilities, or boxes beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.bias.boxes import Picture
from expunge.data.types import DatasetConfig, Sample
from expunge.tasks.detect_eval import detector
from expunge.tasks.fusion import fuse
from expunge.tasks.yolo import Opened, samples_of, yolo_task

BATCH = 32


@torch.no_grad()
def class_probabilities(
    models: Sequence[Opened],
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
    device: str = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the true classes (N,) and the probabilities (N, K), by the model's own list of classes.

    Args:
        models: A model; several: an ensemble, whose mean probability it is.
        root: Folder of the dataset.
        config: What its labels mean.
        samples: Which.
        device: Where to compute.
    """
    task = yolo_task(models[0], device)
    modules = [task.clone(opened.module) for opened in models]
    data = samples_of(models[0], root, config, samples)
    truth, found = [], []
    for first in range(0, len(data), BATCH):
        batch = task.collate([data[i] for i in range(first, min(first + BATCH, len(data)))])
        said = [task.outputs(m, batch)["logits"].double().softmax(1) for m in modules]
        found.append(torch.stack(said).mean(0).cpu().numpy())
        truth.append(batch["cls"].cpu().numpy())
    return np.concatenate(truth).astype(np.int64), np.concatenate(found)


@torch.no_grad()
def detections(
    models: Sequence[Opened],
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
    device: str = "cpu",
) -> list[Picture]:
    """Return for each image its labels, and every detection that ``YOLO.val`` would look at.

    Args:
        models: A model; several: an ensemble, whose boxes are fused.
        root, config, samples, device: See :func:`class_probabilities`.

    Returns:
        Boxes in pixels of the image as the model sees it; objects in the order of the label files.
    """
    task: Any = yolo_task(models[0], device)
    modules: list[Any] = [task.clone(opened.module).eval() for opened in models]
    validator = detector(modules, models[0].names, task.device)
    data = samples_of(models[0], root, config, samples)
    pictures = []
    for first in range(0, len(data), BATCH // 2):
        batch = task.collate([data[i] for i in range(first, min(first + BATCH // 2, len(data)))])
        each = [validator.postprocess(module(batch["img"])) for module in modules]
        fused = each[0] if len(each) == 1 else [fuse(list(parts)) for parts in zip(*each, strict=True)]
        for i, found in enumerate(fused):
            label = validator._prepare_batch(i, batch)
            pictures.append(
                Picture(
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
