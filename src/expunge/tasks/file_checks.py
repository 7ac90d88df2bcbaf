# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detection of samples whose files differ from the manifest or cannot be decoded."""

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
class DamagedSample:
    """A sample whose files cannot be used.

    Attributes:
        path: The sample's path.
        reason: The problem with its image or label, in one sentence.
        gone: Whether the image file is missing.
    """

    path: str
    reason: str
    gone: bool = False


@dataclass(frozen=True)
class CheckedFiles:
    """The result of checking samples' files.

    Attributes:
        readable: Usable samples, in their original order.
        damaged: All other samples.
    """

    readable: tuple[Sample, ...]
    damaged: tuple[DamagedSample, ...]


def check_files(root: Path, config: DatasetConfig, samples: Sequence[Sample]) -> CheckedFiles:
    """Check the image and label file of every sample: digests, label rows, and whether the image decodes.

    Args:
        root: Folder of the dataset.
        config: The dataset's configuration.
        samples: The samples.
    """
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda sample: _damage(root, config, sample), samples))
    readable = tuple(sample for sample, damage in zip(samples, results, strict=True) if damage is None)
    return CheckedFiles(readable, tuple(damage for damage in results if damage is not None))


def _damage(root: Path, config: DatasetConfig, sample: Sample) -> DamagedSample | None:
    try:
        decode(read_checked(root / sample.path, sample.image_digest, sample.path), sample.path)
        if config.kind == "yolo" and sample.label_digest:
            name = f"the label file of {sample.path}"
            text = read_checked(label_file(root, sample.path), sample.label_digest, name).decode("utf-8-sig")
            points = math.prod(config.extra.get("kpt_shape") or (0,))
            read_boxes(text, len(config.names), name, points)
    except InputError as error:
        return DamagedSample(sample.path, error.what, not (root / sample.path).is_file())
    except (UnicodeDecodeError, cv2.error, MemoryError) as error:
        return DamagedSample(sample.path, f"{sample.path} cannot be decoded ({type(error).__name__}).")
    return None
