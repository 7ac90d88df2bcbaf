# SPDX-License-Identifier: Apache-2.0
"""A tiny detection data set: every file is a function of its own name, so leaving one out shifts nothing."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48
# YOLO26's own head and loss on five convolutions: a training step takes milliseconds.
ARCHITECTURE = """\
nc: 80
end2end: True
reg_max: 1
scales:
  n: [1.0, 1.0, 64]
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""
PEOPLE = tuple(f"s{i:02d}" for i in range(6))

CLASSIFIER = """\
nc: 1000
scales:
  n: [1.0, 1.0, 64]
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""


def draw(root: Path, path: str, like: str | None = None) -> Path:
    """Draw one image (``images/…``) and its label; ``like`` gives it the bytes of another name."""
    rng = np.random.default_rng(
        int.from_bytes(hashlib.sha256((like or path).encode()).digest()[:8], "big"),
    )
    pixels = rng.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8)
    size = int(rng.integers(10, 22))
    x, y = (int(v) for v in rng.integers(0, SIDE - size, 2))
    pixels[y : y + size, x : x + size] = rng.integers(0, 255, 3)
    image, label = root / path, label_of(root, path)
    for file in (image, label):
        file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(image)
    numbers = ((x + size / 2) / SIDE, (y + size / 2) / SIDE, size / SIDE, size / SIDE)
    label.write_text(f"{int(rng.integers(2))} " + " ".join(f"{n:.6f}" for n in numbers) + "\n")
    return image


def label_of(root: Path, path: str) -> Path:
    """Return the label file of an image."""
    return (root / path.replace("images/", "labels/", 1)).with_suffix(".txt")


def make(root: Path, *, without: Iterable[str] = (), extra: Mapping[str, str] | None = None) -> Path:
    """Draw six people with three images each, two free images and six to validate; returns the data.yaml.

    Args:
        root: Where to.
        without: Subjects who are not there.
        extra: Further images (``images/…``) and whom they show.
    """
    gone = set(without)
    rows = [(f"images/train/{s}_{k}.png", s) for s in PEOPLE for k in range(3)]
    rows += sorted((extra or {}).items())
    rows = [(path, subject) for path, subject in rows if subject not in gone]
    for path in [p for p, _ in rows] + [f"images/val/{k}.png" for k in range(6)]:
        draw(root, path)
    for k in range(2):
        draw(root, f"images/train/free_{k}.png")
    with open(root / "subjects.csv", "w", newline="") as file:
        csv.writer(file).writerows([("sample", "subject"), *rows])
    source = root / "data.yaml"
    source.write_text("train: images/train\nval: images/val\nnames: {0: box, 1: disc}\n")
    return source


def architecture(folder: Path, task: str = "detect") -> Path:
    """Write an architecture; returns what to give to ``--weights``."""
    file = folder / ("nano.yaml" if task == "detect" else "nano-cls.yaml")
    file.write_text(ARCHITECTURE if task == "detect" else CLASSIFIER)
    return file
