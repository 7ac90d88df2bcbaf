# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection metrics by Ultralytics' own matching and mAP, on the samples of a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from expunge.data.types import DatasetConfig, Sample
from expunge.tasks.quiet import load_ultralytics

if TYPE_CHECKING:
    from expunge.training.plan import Plan

BATCH = 16
CPU = torch.device("cpu")


KEYS = {
    "precision": "precision(B)",
    "recall": "recall(B)",
    "mAP50": "mAP50(B)",
    "mAP50-95": "mAP50-95(B)",
}


def evaluate(
    modules: Sequence[Any], plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]
) -> dict[str, float]:
    """Return precision, recall, mAP50 and mAP50-95 as ``YOLO.val`` computes them (square letterbox)."""
    load_ultralytics()
    from expunge.tasks.boxes_data import BoxDataset, hyperparameters

    if not samples:
        return {}
    dataset = BoxDataset(root, config, samples, plan.names, hyperparameters(plan), plan.recipe.imgsz, False)

    def batches() -> Iterator[dict[str, Any]]:
        for first in range(0, len(samples), BATCH):
            indices = range(first, min(first + BATCH, len(samples)))
            batch: dict[str, Any] = dataset.collate_fn([dataset[i] for i in indices])
            batch["img"] = batch["img"].float() / 255
            yield batch

    return measure(modules, batches(), plan.names)


@torch.no_grad()
def measure(
    modules: Sequence[Any],
    batches: Iterable[dict[str, Any]],
    names: Sequence[str],
    device: torch.device = CPU,
) -> dict[str, float]:
    """Return the metrics of one model, or of the fused boxes of several models.

    Args:
        modules: Detection models; they are left in evaluation mode.
        batches: Batches as Ultralytics collates them, with images as floats in 0–1.
        names: Class names.
        device: Device of the models and batches.
    """
    from expunge.tasks.fusion import fuse

    validator = detector(modules, names, device)
    for batch in batches:
        outputs = [validator.postprocess(module(batch["img"])) for module in modules]
        predictions = (
            outputs[0] if len(outputs) == 1 else [fuse(list(each)) for each in zip(*outputs, strict=True)]
        )
        validator.update_metrics(predictions, batch)
    stats = validator.get_stats()
    return {name: round(float(stats.get(f"metrics/{key}", 0.0)), 5) for name, key in KEYS.items()}


def detector(modules: Sequence[Any], names: Sequence[str], device: torch.device = CPU) -> Any:
    """Return a new Ultralytics validator for some models, which are put in evaluation mode."""
    load_ultralytics()
    from ultralytics.models.yolo.detect import DetectionValidator

    validator: Any = DetectionValidator(
        args={"task": "detect", "plots": False, "conf": 0.001, "save_json": False}
    )
    validator.device = device
    validator.args.conf = 0.001
    validator.data, validator.seen, validator.jdict = {}, 0, []
    validator.is_custom_json = validator.build_gdict = False
    validator.end2end, validator.nc = bool(getattr(modules[0], "end2end", False)), len(names)
    validator.names = validator.metrics.names = dict(enumerate(names))
    for module in modules:
        module.eval()
    return validator
