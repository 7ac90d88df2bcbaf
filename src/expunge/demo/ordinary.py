# SPDX-License-Identifier: Apache-2.0
"""The ordinary training with which the erasable training is compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from expunge.demo.settings import Settings

if TYPE_CHECKING:
    from expunge.training.plan import Plan


def train_ordinary(
    data_yaml: Path, out: Path, weights: Path, plan: Plan, settings: Settings
) -> dict[str, float]:
    """Train with stock Ultralytics and the same recipe; return the metrics of the validation split.

    Args:
        data_yaml: A separate copy of the dataset, since Ultralytics writes label caches into it.
        out: Folder for the run.
        weights: The architecture.
        plan: The erasable training's plan, for its recipe and evaluation.
        settings: The size of the demo.
    """
    from expunge.data.scan import scan
    from expunge.tasks.base import get_task
    from expunge.tasks.baseline import train_plain
    from expunge.tasks.weights import state_of

    recipe = plan.recipe
    same = ("optimizer", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs")
    overrides = {**recipe.augment, **{key: getattr(recipe, key) for key in same}}
    trained = train_plain(
        data_yaml,
        out,
        weights=str(weights),
        epochs=settings.ordinary_epochs,
        imgsz=settings.imgsz,
        batch=settings.batch,
        seed=settings.seed,
        threads=settings.ordinary_threads,
        overrides={**overrides, "nbs": settings.batch, "warmup_bias_lr": 0.0},
    )
    found = scan(data_yaml)
    val = [sample for sample in found.samples if sample.split == "val"]
    state = state_of(Path(trained["weights"]))
    return get_task(plan.task).evaluate([state], plan, found.config, found.root, val)
