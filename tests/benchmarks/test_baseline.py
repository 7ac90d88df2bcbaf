# SPDX-License-Identifier: Apache-2.0
"""Ordinary training with stock Ultralytics, as the baseline runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expunge.errors import ExpungeError
from expunge.tasks.baseline import train_plain

SETTINGS = {"weights": "yolo26n.yaml", "epochs": 1, "imgsz": 64, "batch": 4, "seed": 0, "threads": 1}


def _data(root: Path) -> Path:
    for i in range(4):
        for kind in ("images", "labels"):
            (root / kind / "train").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / "train" / f"{i}.png")
        (root / "labels" / "train" / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    path = root / "data.yaml"
    path.write_text(f"path: {root}\ntrain: images/train\nval: images/train\nnames: [thing]\n")
    return path


@pytest.mark.slow
def test_trains_with_stock_ultralytics(tmp_path: Path) -> None:
    result = train_plain(_data(tmp_path / "data"), tmp_path / "out", overrides={"nbs": 4}, **SETTINGS)
    assert Path(result["weights"]).is_file()
    assert result["cpu_seconds"] > 0
    assert (result["epochs"], result["images"]) == (1, 4)


@pytest.mark.slow
def test_a_failure_says_why(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="Ordinary training failed"):
        train_plain(tmp_path / "none.yaml", tmp_path / "out", **SETTINGS)
