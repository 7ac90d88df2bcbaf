# SPDX-License-Identifier: AGPL-3.0-or-later
"""Samples of a manifest as a map-style data set for Ultralytics models: checked, sized, not augmented.

An item says all about its sample, so that ``Subset`` and ``ConcatDataset`` may stand around the data set.
Images and labels are read through the manifest (digests checked); Ultralytics' scan and caches never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from expunge.data.types import DatasetConfig, Sample
from expunge.errors import InputError
from expunge.tasks.images import ImageStore
from expunge.tasks.quiet import load_ultralytics


class YoloSamples:
    """Samples of one dataset, as a model with certain classes and image size sees them.

    Items are dicts: for boxes as Ultralytics' ``Format`` makes them (``img`` (3, S, S) uint8, letterboxed;
    ``cls`` (n, 1); ``bboxes`` (n, 4) xywh in 0–1; …), for classification ``img`` (3, S, S) float in 0–1 and
    ``cls``, an int.

    Attributes:
        root: Folder of the dataset.
        config: What its labels mean.
        samples: The manifest's rows, in the order of the items.

    Raises:
        InputError: If a file differs from the manifest, or the model lacks a class.
    """

    def __init__(
        self,
        root: Path,
        config: DatasetConfig,
        samples: Sequence[Sample],
        names: tuple[str, ...],
        imgsz: int,
    ) -> None:
        load_ultralytics()
        self.root, self.config, self.samples = root, config, tuple(samples)
        kind: type[_Boxes | _Pictures] = _Boxes if config.kind == "yolo" else _Pictures
        self._items = kind(root, config, self.samples, names, imgsz)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._items.item(index % len(self))


class _Boxes:
    def __init__(
        self, root: Path, config: DatasetConfig, samples: Sequence[Sample], names: tuple[str, ...], imgsz: int
    ) -> None:
        from ultralytics.cfg import get_cfg

        from expunge.tasks.boxes_data import BoxDataset

        settings = get_cfg(overrides={"imgsz": imgsz, "task": "detect"})
        self._data = BoxDataset(root, config, samples, names, settings, imgsz, False) if samples else None

    def item(self, index: int) -> dict[str, Any]:
        assert self._data is not None
        found: dict[str, Any] = self._data[index]
        return found


class _Pictures:
    def __init__(
        self, root: Path, config: DatasetConfig, samples: Sequence[Sample], names: tuple[str, ...], imgsz: int
    ) -> None:
        from ultralytics.data.augment import classify_transforms

        from expunge.tasks.classify import class_number

        numbers = {name: i for i, name in enumerate(names)}
        self._labels = [class_number(numbers, sample) for sample in samples]
        self._store = ImageStore(root, list(samples), kind="folders")
        self._transform = classify_transforms(size=imgsz)

    def item(self, index: int) -> dict[str, Any]:
        bgr, _ = self._store.load(index)
        image = self._transform(Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
        return {"img": image, "cls": self._labels[index]}


def rows_of(data: Any) -> tuple[YoloSamples, list[Sample]]:
    """Return the data set below ``Subset`` and ``ConcatDataset``, and the manifest's rows of the samples.

    Raises:
        InputError: If something else lies below, or data sets of different folders.
    """
    found = _rows(data)
    sources = {(source.root, source.config.names): source for source, _ in found}
    if len(sources) != 1:
        raise InputError(
            "The samples to train on are not those of one dataset.",
            "There is none." if not sources else "They lie in different folders, or have different classes.",
            "Give samples of one dataset, at least one of them.",
        )
    return next(iter(sources.values())), [sample for _, sample in found]


def _rows(data: Any) -> list[tuple[YoloSamples, Sample]]:
    if isinstance(data, YoloSamples):
        return [(data, sample) for sample in data.samples]
    if isinstance(data, Subset):
        inner = _rows(data.dataset)
        return [inner[i] for i in data.indices]
    if isinstance(data, ConcatDataset):
        return [row for part in data.datasets for row in _rows(part)]
    raise InputError(
        f"A {type(data).__name__} does not say which files its samples are.",
        "Training needs them, to augment anew in every epoch.",
        "Use YoloSamples, or a Subset or ConcatDataset of it.",
    )
