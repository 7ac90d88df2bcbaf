# SPDX-License-Identifier: AGPL-3.0-or-later
"""The exact training task of Ultralytics image classification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch
from PIL import Image

from expunge.data.types import DatasetConfig, Sample
from expunge.storage.hashing import keyed_hash
from expunge.tasks.detect import UltralyticsTask
from expunge.tasks.images import ImageStore
from expunge.tasks.quiet import load_ultralytics
from expunge.training.random_state import seed_everything
from expunge.training.schedule import Stage

if TYPE_CHECKING:
    from expunge.training.plan import Plan

BATCH = 32


class ClassData:
    """Images of a list of samples with Ultralytics' classification transforms."""

    def __init__(
        self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample], augment: bool
    ) -> None:
        from ultralytics.data.augment import classify_augmentations, classify_transforms

        self._plan, self._samples = plan, list(samples)
        self._store = ImageStore(root, self._samples, kind="folders")
        indices = {name: i for i, name in enumerate(plan.names)}
        self._labels = [class_number(indices, s) for s in self._samples]
        size, settings = plan.recipe.imgsz, plan.recipe.augment
        if augment:
            self._transform = classify_augmentations(
                size=size,
                scale=(1.0 - float(settings.get("scale") or 0.0), 1.0),
                hflip=float(settings.get("fliplr") or 0.0),
                vflip=float(settings.get("flipud") or 0.0),
                erasing=float(settings.get("erasing") or 0.0),
                auto_augment=str(settings.get("auto_augment") or "") or None,
                hsv_h=float(settings.get("hsv_h") or 0.0),
                hsv_s=float(settings.get("hsv_s") or 0.0),
                hsv_v=float(settings.get("hsv_v") or 0.0),
            )
        else:
            self._transform = classify_transforms(size=size)

    def batch(self, stage: Stage, epoch: int, indices: Sequence[int]) -> dict[str, Any]:
        """Return the batch of the samples at ``indices``, augmented for this epoch."""
        images = []
        for i in indices:
            path = self._samples[i].path
            seed_everything(keyed_hash(self._plan.seed, "augment", stage.phase, epoch, path))
            images.append(self.image(i))
        return {"img": torch.stack(images), "cls": torch.tensor([self._labels[i] for i in indices])}

    def image(self, index: int) -> torch.Tensor:
        """Return the transformed image (3, H, W)."""
        bgr, _ = self._store.load(index)
        image: torch.Tensor = self._transform(Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
        return image

    @property
    def labels(self) -> list[int]:
        """The plan's class index of each sample."""
        return self._labels


def class_number(index: dict[str, int], sample: Sample) -> int:
    """Return the class index of a sample.

    Raises:
        InputError: If the plan does not have the class.
    """
    from expunge.errors import InputError

    if sample.class_name not in index:
        raise InputError(
            f"The plan has no class '{sample.class_name}'.",
            "A sample lies in a class folder that the plan does not name.",
            "Make a new plan, or use data with the plan's classes.",
        )
    return index[sample.class_name]


class ClassifyTask(UltralyticsTask):
    """Image classification with an Ultralytics model."""

    name = "classify"

    def prepare(self, model: Any, plan: Plan, frozen: int) -> None:
        """Attach the loss, set the dropout rate, and make all but the first ``frozen`` layers trainable."""
        super().prepare(model, plan, frozen)
        rate = plan.recipe.gains.get("dropout", 0.0)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) and rate:
                module.p = rate

    def data(self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]) -> ClassData:
        """Return the training data of the samples below ``root``."""
        load_ultralytics()
        return ClassData(plan, config, root, samples, True)

    @torch.no_grad()
    def evaluate(
        self,
        states: Sequence[dict[str, torch.Tensor]],
        plan: Plan,
        config: DatasetConfig,
        root: Path,
        samples: Sequence[Sample],
    ) -> dict[str, float]:
        """Return top-1 and top-5 accuracy; several states are evaluated by their mean probability."""
        load_ultralytics()
        if not samples:
            return {}
        data = ClassData(plan, config, root, samples, False)
        modules = []
        for state in states:
            module = self.build(plan)
            module.load_state_dict(state)
            modules.append(module.eval())
        hits1 = hits5 = 0
        for first in range(0, len(samples), BATCH):
            indices = range(first, min(first + BATCH, len(samples)))
            images = torch.stack([data.image(i) for i in indices])
            outputs = [module(images) for module in modules]
            scores = sum(o[0] if isinstance(o, tuple) else o for o in outputs)
            ranked = scores.argsort(1, descending=True)[:, :5]
            truth = torch.tensor([data.labels[i] for i in indices])[:, None]
            hits1 += int((ranked[:, :1] == truth).sum())
            hits5 += int((ranked == truth).sum())
        return {"top1": round(hits1 / len(samples), 5), "top5": round(hits5 / len(samples), 5)}
