# SPDX-License-Identifier: AGPL-3.0-or-later
"""Finds the samples whose files are no longer what the manifest records, or cannot be decoded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2

from expunge.data.labels import read_boxes
from expunge.data.types import DatasetConfig, Sample
from expunge.data.yolo import label_file
from expunge.errors import InputError
from expunge.tasks.images import decode, read_checked

MOST_THREADS = 8


@dataclass(frozen=True)
class Damaged:
    """A sample that cannot be used as it was recorded.

    Attributes:
        path: The sample's path.
        reason: What is wrong with its image or label, in one sentence.
        gone: The image file is not there.
    """

    path: str
    reason: str
    gone: bool = False


@dataclass(frozen=True)
class Checked:
    """Samples after their files were read.

    Attributes:
        readable: Those that can be used, in their order.
        damaged: The others.
    """

    readable: tuple[Sample, ...]
    damaged: tuple[Damaged, ...]


def check_files(root: Path, config: DatasetConfig, samples: Sequence[Sample]) -> Checked:
    """Read the image and the label of every sample: digests, label rows, and whether the image decodes.

    Args:
        root: Folder of the dataset.
        config: What its labels mean.
        samples: Which.
    """
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda sample: _damage(root, config, sample), samples))
    readable = tuple(sample for sample, damage in zip(samples, found, strict=True) if damage is None)
    return Checked(readable, tuple(damage for damage in found if damage is not None))


def _damage(root: Path, config: DatasetConfig, sample: Sample) -> Damaged | None:
    try:
        decode(read_checked(root / sample.path, sample.image_digest, sample.path), sample.path)
        if config.kind == "yolo" and sample.label_digest:
            name = f"the label file of {sample.path}"
            text = read_checked(label_file(root, sample.path), sample.label_digest, name).decode("utf-8-sig")
            points = math.prod(config.extra.get("kpt_shape") or (0,))
            read_boxes(text, len(config.names), name, points)
    except InputError as error:
        return Damaged(sample.path, error.what, not (root / sample.path).is_file())
    except (UnicodeDecodeError, cv2.error, MemoryError) as error:
        return Damaged(sample.path, f"{sample.path} cannot be decoded ({type(error).__name__}).")
    return None
