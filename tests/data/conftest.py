# SPDX-License-Identifier: Apache-2.0
"""Fixtures: small datasets on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(path: Path) -> Path:
    """Write a 12x12 image whose pixels are derived from its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256("/".join(path.parts[-3:]).encode()).digest()[:4], "big")
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def image() -> Callable[[Path], Path]:
    """Return the function that writes an image."""
    return write_image


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a detection dataset: three labelled images in train, one with and one without label in val."""
    root = tmp_path / "shop"
    for name in ("train/a", "train/b", "train/deep/ä ö", "val/c", "val/d"):
        write_image(root / "images" / f"{name}.png")
        if name != "val/d":
            label = root / "labels" / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.1\n", encoding="utf-8")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [box, disc]\n")
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a classification folder whose class ``emu`` has images only in val."""
    root = tmp_path / "pets"
    for name in ("train/cat/1", "train/cat/x/2", "train/dog/3", "val/cat/4", "val/emu/5"):
        write_image(root / f"{name}.png")
    return root
