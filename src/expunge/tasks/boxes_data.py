# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection data: Ultralytics' augmentations, with draws that depend only on seed, epoch and sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset

from expunge.data.labels import read_boxes
from expunge.data.types import DatasetConfig, Sample
from expunge.data.yolo import label_file
from expunge.errors import InputError
from expunge.storage.hashing import keyed_hash
from expunge.tasks.images import ImageStore, read_checked
from expunge.training.random_state import seed_everything
from expunge.training.schedule import PartnerRing, Stage

if TYPE_CHECKING:
    from expunge.training.plan import Plan


class BoxDataset(YOLODataset):
    """Ultralytics' dataset without its folder scan: labels and images are read from the manifest alone."""

    def __init__(
        self,
        root: Path,
        config: DatasetConfig,
        samples: Sequence[Sample],
        names: tuple[str, ...],
        hyp: Any,
        imgsz: int,
        augment: bool,
    ) -> None:
        self._samples, self._root = list(samples), root
        self._index = class_index(config, names)
        self._classes = len(config.names)
        self._keypoint_values = math.prod(config.extra.get("kpt_shape") or (0,))
        self._store = ImageStore(root, self._samples)
        self.partner: Callable[[], int] = lambda: 0
        super().__init__(
            img_path="",
            imgsz=imgsz,
            cache=False,
            augment=augment,
            hyp=hyp,
            rect=False,
            data={"names": dict(enumerate(names)), "channels": 3, **config.extra},
            task="detect",
        )

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the manifest's paths; the file system is not searched."""
        return [s.path for s in self._samples]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return the labels of every sample, read from its label file and checked against the manifest."""
        return [self._label(sample) for sample in self._samples]

    def _label(self, sample: Sample) -> dict[str, Any]:
        boxes = np.zeros((0, 5), np.float32)
        if sample.label_digest:
            file = label_file(self._root, sample.path)
            name = f"the label file of {sample.path}"
            text = read_checked(file, sample.label_digest, name).decode("utf-8-sig")
            boxes = read_boxes(text, self._classes, name, self._keypoint_values)
            boxes[:, 0] = self._index[boxes[:, 0].astype(int)]
            boxes = boxes[~np.isnan(boxes[:, 0])]
        return {
            "im_file": sample.path,
            "cls": boxes[:, :1],
            "bboxes": boxes[:, 1:],
            "segments": [],
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> tuple[Any, Any, Any]:
        """Return the image, resized to ``imgsz``, its original shape and its new shape."""
        image, shape = self._store.load(i, int(self.imgsz))  # type: ignore[arg-type]
        return image, shape, image.shape[:2]

    def build_transforms(self, hyp: Any) -> Any:
        """Return Ultralytics' transforms; ``self.partner`` chooses the partners of mosaic and mixup."""
        transforms = super().build_transforms(hyp)
        for transform in _flatten_transforms(transforms):
            if hasattr(transform, "get_indexes"):
                count = getattr(transform, "n", 2) - 1
                transform.get_indexes = lambda count=count: [self.partner() for _ in range(count)]
        return transforms


class BoxStageData:
    """Batches of a detection stage; see :class:`expunge.training.task.StageData`."""

    def __init__(self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]) -> None:
        self._plan, self._paths = plan, [s.path for s in samples]
        hyp = hyperparameters(plan)
        self._dataset = BoxDataset(root, config, samples, plan.names, copy(hyp), plan.recipe.imgsz, True)
        without_mixing = copy(hyp)
        for name in ("mosaic", "copy_paste", "mixup", "cutmix"):
            setattr(without_mixing, name, 0.0)
        self._mixing_transforms = self._dataset.transforms
        self._plain_transforms = self._dataset.build_transforms(copy(without_mixing))
        self._ring: PartnerRing | None = None
        self._ring_epoch: tuple[str, int] | None = None

    def batch(self, stage: Stage, epoch: int, indices: Sequence[int]) -> dict[str, Any]:
        """Return the batch of the samples at ``indices``, augmented for this epoch."""
        end = stage.first_epoch + stage.epochs if self._plan.recipe.anneal == "stage" else stage.phase_epochs
        mixing = epoch < end - self._plan.recipe.close_mosaic
        self._dataset.transforms = self._mixing_transforms if mixing else self._plain_transforms
        if self._ring_epoch != (stage.phase, epoch):
            self._ring = PartnerRing(self._plan.seed, stage.phase, epoch, self._paths)
            self._ring_epoch = (stage.phase, epoch)
        batch: dict[str, Any] = self._dataset.collate_fn([self._item(stage, epoch, i) for i in indices])
        batch["img"] = batch["img"].float() / 255
        return batch

    def _item(self, stage: Stage, epoch: int, index: int) -> dict[str, Any]:
        path, draws = self._paths[index], iter(range(1 << 20))
        ring = self._ring
        assert ring is not None
        self._dataset.partner = lambda: ring.partner(path, next(draws))
        seed_everything(keyed_hash(self._plan.seed, "augment", stage.phase, epoch, path))
        item: dict[str, Any] = self._dataset[index]
        return item


def hyperparameters(plan: Plan) -> Any:
    """Return Ultralytics' configuration with the plan's values."""
    settings = {"imgsz": plan.recipe.imgsz, "batch": plan.recipe.batch, "task": plan.task}
    values = {k: v for k, v in plan.recipe.augment.items() if v is not None}
    return get_cfg(overrides={**settings, **plan.recipe.gains, **values, "deterministic": True})


def class_index(config: DatasetConfig, plan: Sequence[str]) -> NDArray[np.float32]:
    """Return the plan's class index for each class of the data set.

    ``config.class_map`` decides where it is set; otherwise classes are matched by name.

    Returns:
        Array (number of classes,); NaN for a class whose labels are dropped.

    Raises:
        InputError: If the plan lacks a class.
    """
    if config.class_map is not None:
        return np.array([np.nan if i is None else i for i in config.class_map], dtype=np.float32)
    names = config.names
    missing = [name for name in names if name not in plan]
    if missing:
        raise InputError(
            f"The plan has no class '{missing[0]}'.",
            f"The dataset names {len(missing)} class(es) that are not in the plan.",
            "Make a new plan, or use data with the plan's classes.",
        )
    return np.array([list(plan).index(name) for name in names], dtype=np.float32)


def _flatten_transforms(transform: Any) -> list[Any]:
    transforms = [transform]
    for child in [*getattr(transform, "transforms", []), getattr(transform, "pre_transform", None)]:
        if child is not None:
            transforms += _flatten_transforms(child)
    return transforms
