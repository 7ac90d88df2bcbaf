# SPDX-License-Identifier: Apache-2.0
"""Training recipes: the defaults of each task, and the settings that a user may change."""

from __future__ import annotations

from typing import Any

from expunge.errors import InputError
from expunge.training.plan import Recipe

# Ultralytics' augmentation settings by task; mosaic is off by default (see docs/exact.md).
AUGMENT: dict[str, dict[str, float | str | None]] = {
    "detect": {
        "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0, "translate": 0.1, "scale": 0.2,
        "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "bgr": 0.0,
        "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0,
    },
    "classify": {
        "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "scale": 0.5, "fliplr": 0.5, "flipud": 0.0,
        "erasing": 0.4, "auto_augment": "randaugment",
    },
}  # fmt: skip
GAINS = {"detect": {"box": 7.5, "cls": 0.5, "dfl": 1.5}, "classify": {"dropout": 0.0}}
RECIPE_KEYS = (
    "optimizer", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs", "anneal", "close_mosaic",
)  # fmt: skip


def make_recipe(task: str, classes: int, imgsz: int | None, batch: int, values: dict[str, Any]) -> Recipe:
    """Return the recipe of a task, with defaults for the settings that are not given.

    Args:
        task: ``detect`` or ``classify``.
        classes: Number of classes.
        imgsz: Image size in pixels; None: the task's default.
        batch: Images per batch.
        values: Settings by name. Those that belong to the recipe are removed from it.

    Raises:
        InputError: If the image size is not a multiple of 32.
    """
    augment = {k: values.pop(k, v) for k, v in AUGMENT[task].items()}
    gains = {k: values.pop(k, v) for k, v in GAINS[task].items()}
    chosen: dict[str, Any] = {
        "optimizer": "AdamW",
        "lr0": round(0.002 * 5 / (4 + classes), 6),  # Ultralytics' rule for short trainings
        "lrf": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "warmup_epochs": 1.0,
    }
    chosen |= {k: values.pop(k) for k in RECIPE_KEYS if k in values}
    imgsz = imgsz or (640 if task == "detect" else 224)
    if imgsz % 32:
        raise InputError(f"--imgsz {imgsz} does not fit.", "It must be a multiple of 32.", "Round it.")
    return Recipe(imgsz=imgsz, batch=batch, augment=augment, gains=gains, **chosen)
