# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection metrics with Ultralytics' own matching and mAP, over a manifest instead of a YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from expunge.data.types import DatasetConfig, Sample
from expunge.tasks.quiet import load_ultralytics

if TYPE_CHECKING:
    from expunge.exact.plan import Plan

BATCH = 16


@torch.no_grad()
def evaluate(
    modules: Sequence[Any], plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]
) -> dict[str, float]:
    """Return precision, recall, mAP50 and mAP50-95 as ``YOLO.val`` computes them (square letterbox)."""
    load_ultralytics()
    from ultralytics.models.yolo.detect import DetectionValidator

    from expunge.tasks.boxes_data import BoxDataset, hyperparameters
    from expunge.tasks.fusion import fuse

    if not samples:
        return {}
    dataset = BoxDataset(root, config, samples, plan.names, hyperparameters(plan), plan.recipe.imgsz, False)
    validator: Any = DetectionValidator(
        args={"task": "detect", "plots": False, "conf": 0.001, "save_json": False}
    )
    validator.device = torch.device("cpu")
    validator.args.conf = 0.001
    validator.data, validator.seen, validator.jdict = {}, 0, []
    validator.is_custom_json = validator.build_gdict = False
    validator.end2end, validator.nc = False, len(plan.names)
    validator.names = validator.metrics.names = dict(enumerate(plan.names))
    for module in modules:
        module.eval()
    for first in range(0, len(samples), BATCH):
        indices = range(first, min(first + BATCH, len(samples)))
        batch = dataset.collate_fn([dataset[i] for i in indices])
        batch["img"] = batch["img"].float() / 255
        found = [validator.postprocess(module(batch["img"])) for module in modules]
        predictions = found[0] if len(found) == 1 else [fuse(list(each)) for each in zip(*found, strict=True)]
        validator.update_metrics(predictions, batch)
    stats = validator.get_stats()
    keys = {
        "precision": "precision(B)",
        "recall": "recall(B)",
        "mAP50": "mAP50(B)",
        "mAP50-95": "mAP50-95(B)",
    }
    return {name: round(float(stats.get(f"metrics/{key}", 0.0)), 5) for name, key in keys.items()}
