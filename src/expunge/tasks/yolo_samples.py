# SPDX-License-Identifier: AGPL-3.0-or-later
"""Samples of a manifest as a map-style data set for Ultralytics models: verified, resized, not augmented.

Items are self-contained, so the data set can be wrapped in ``Subset`` and ``ConcatDataset``. Images and
labels are read through the manifest (digests checked); Ultralytics' scan and caches are not used.
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
    """Samples of one dataset at a model's image size, with the model's class indices.

    Items are dicts. For boxes they are as Ultralytics' ``Format`` makes them: ``img`` (3, S, S) uint8,
    letterboxed; ``cls`` (n, 1); ``bboxes`` (n, 4) xywh in 0–1; …. For classification they are ``img``
    (3, S, S) float in 0–1 and ``cls``, an int.

    Args:
        root: Folder of the dataset; an attribute, too.
        config: The dataset's configuration; an attribute, too.
        samples: The manifest's rows, in the order of the items; an attribute, too.
        names: The model's class names.
        imgsz: Image size S in pixels.

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
        kind: type[_BoxItems | _ClassItems] = _BoxItems if config.kind == "yolo" else _ClassItems
        self._items = kind(root, config, self.samples, names, imgsz)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._items.item(index % len(self))


class _BoxItems:
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


class _ClassItems:
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
    """Return the data set inside ``Subset`` and ``ConcatDataset``, and the manifest's rows of the samples.

    Raises:
        InputError: If it contains another kind of data set, or data sets of different folders.
    """
    pairs = _source_rows(data)
    sources = {(source.root, source.config.names): source for source, _ in pairs}
    if len(sources) != 1:
        raise InputError(
            "The samples to train on are not those of one dataset.",
            "There is none." if not sources else "They lie in different folders, or have different classes.",
            "Give samples of one dataset, at least one of them.",
        )
    return next(iter(sources.values())), [sample for _, sample in pairs]


def _source_rows(data: Any) -> list[tuple[YoloSamples, Sample]]:
    if isinstance(data, YoloSamples):
        return [(data, sample) for sample in data.samples]
    if isinstance(data, Subset):
        pairs = _source_rows(data.dataset)
        return [pairs[i] for i in data.indices]
    if isinstance(data, ConcatDataset):
        return [row for part in data.datasets for row in _source_rows(part)]
    raise InputError(
        f"A {type(data).__name__} does not say which files its samples are.",
        "Training needs them for new augmentations in every epoch.",
        "Use YoloSamples, or a Subset or ConcatDataset of it.",
    )
