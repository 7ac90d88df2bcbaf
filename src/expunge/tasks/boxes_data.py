# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection data: Ultralytics' own augmentations over our own list, each draw a function of the sample."""

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
from expunge.exact.hashing import keyed_hash
from expunge.exact.schedule import PartnerRing, Stage
from expunge.exact.trainer import seed_everything
from expunge.tasks.images import ImageStore, read_checked

if TYPE_CHECKING:
    from expunge.exact.plan import Plan


class BoxDataset(YOLODataset):
    """Ultralytics' dataset without its scan: labels and images come from the manifest alone."""

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
        """Return the manifest's paths; nothing on disk is searched."""
        return [s.path for s in self._samples]

    def get_labels(self) -> list[dict[str, Any]]:
        """Read each sample's own label file, checked against the manifest."""
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
        """Return (image resized to imgsz, original shape, new shape)."""
        image, shape = self._store.load(i, int(self.imgsz))  # type: ignore[arg-type]
        return image, shape, image.shape[:2]

    def build_transforms(self, hyp: Any) -> Any:
        """Build Ultralytics' pipeline and let our ring choose the partners of its mixes."""
        transforms = super().build_transforms(hyp)
        for transform in _walk(transforms):
            if hasattr(transform, "get_indexes"):
                count = getattr(transform, "n", 2) - 1
                transform.get_indexes = lambda count=count: [self.partner() for _ in range(count)]
        return transforms


class BoxStageData:
    """Batches of a stage; see :class:`expunge.tasks.base.StageData`."""

    def __init__(self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]) -> None:
        self._plan, self._paths = plan, [s.path for s in samples]
        hyp = hyperparameters(plan)
        self._open = BoxDataset(root, config, samples, plan.names, copy(hyp), plan.recipe.imgsz, True)
        closed = copy(hyp)
        for name in ("mosaic", "copy_paste", "mixup", "cutmix"):
            setattr(closed, name, 0.0)
        self._mixing = self._open.transforms
        self._plain = self._open.build_transforms(copy(closed))
        self._ring: PartnerRing | None = None
        self._ring_of: tuple[str, int] | None = None

    def batch(self, stage: Stage, epoch: int, indices: Sequence[int]) -> dict[str, Any]:
        """Return the batch of the samples at ``indices``, as drawn in this epoch."""
        last = stage.first_epoch + stage.epochs if self._plan.recipe.anneal == "stage" else stage.phase_epochs
        mixing = epoch < last - self._plan.recipe.close_mosaic
        self._open.transforms = self._mixing if mixing else self._plain
        if self._ring_of != (stage.phase, epoch):
            self._ring = PartnerRing(self._plan.seed, stage.phase, epoch, self._paths)
            self._ring_of = (stage.phase, epoch)
        batch: dict[str, Any] = self._open.collate_fn([self._item(stage, epoch, i) for i in indices])
        batch["img"] = batch["img"].float() / 255
        return batch

    def _item(self, stage: Stage, epoch: int, index: int) -> dict[str, Any]:
        path, draws = self._paths[index], iter(range(1 << 20))
        ring = self._ring
        assert ring is not None
        self._open.partner = lambda: ring.partner(path, next(draws))
        seed_everything(keyed_hash(self._plan.seed, "augment", stage.phase, epoch, path))
        item: dict[str, Any] = self._open[index]
        return item


def hyperparameters(plan: Plan) -> Any:
    """Return Ultralytics' configuration with the plan's values."""
    known = {"imgsz": plan.recipe.imgsz, "batch": plan.recipe.batch, "task": plan.task}
    values = {k: v for k, v in plan.recipe.augment.items() if v is not None}
    return get_cfg(overrides={**known, **plan.recipe.gains, **values, "deterministic": True})


def class_index(config: DatasetConfig, plan: Sequence[str]) -> NDArray[np.float32]:
    """Map class indices of the data set to those of the plan: as the configuration says, or by name.

    Returns:
        Array (number of classes); NaN for a class whose labels are left out.

    Raises:
        InputError: If the plan lacks a class.
    """
    if config.class_map is not None:
        return np.array([np.nan if i is None else i for i in config.class_map], dtype=np.float32)
    ours = config.names
    missing = [name for name in ours if name not in plan]
    if missing:
        raise InputError(
            f"The plan has no class '{missing[0]}'.",
            f"The dataset names {len(missing)} class(es) that are not in the plan.",
            "Make a new plan, or use data with the plan's classes.",
        )
    return np.array([list(plan).index(name) for name in ours], dtype=np.float32)


def _walk(transform: Any) -> list[Any]:
    found = [transform]
    for child in [*getattr(transform, "transforms", []), getattr(transform, "pre_transform", None)]:
        if child is not None:
            found += _walk(child)
    return found
