# SPDX-License-Identifier: Apache-2.0
"""Suite ``fashion_yolo``: YOLO26n-cls on Fashion-MNIST (``python -m benchmarks fashion_yolo --data FOLDER``).

The pictures are those of the suite ``fashion``, written to files first: 600 are trained on, without
augmentation, and 800 others judge.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.methods.command import main
from benchmarks.methods.fashion import Drawn
from benchmarks.methods.worlds import World
from benchmarks.methods.yolo_suite import YoloSuite
from expunge.data.scan import scan
from expunge.data.types import Scan
from expunge.tasks.protocol import Samples
from expunge.tasks.yolo import samples_of

SIZES = TRAIN, GUARD, TEST = 600, 400, 800
EPOCHS, QUICK_EPOCHS, IMGSZ = 25, 2, 32
NAMES = tuple(str(label) for label in range(10))


class FashionYolo(YoloSuite):
    """See the module.

    Args:
        data: Folder of Fashion-MNIST.
        root: Folder for the pictures.
        epochs: Of every training.
        device: Where to work.
    """

    name = "fashion_yolo"

    def __init__(self, data: Path, root: Path, *, epochs: int, device: str = "cpu") -> None:
        super().__init__(
            "yolo26n-cls.yaml", "classify", NAMES, epochs=epochs, imgsz=IMGSZ, batch=50, device=device
        )
        self.goals: tuple[str, ...] = ("random", "class", "corrupted")
        self.about = (
            f"YOLO26n-cls at {IMGSZ} px on {TRAIN} pictures of Fashion-MNIST (for `corrupted` a tenth "
            f"of them mislabelled), {epochs} epochs from scratch without augmentation"
        )
        self._source, self._root = data, root
        self._kept: dict[tuple[int, str], tuple[Scan, Drawn]] = {}

    def variant(self, goal: str) -> str:
        """Return whether the data has corrupted labels."""
        return "corrupted" if goal == "corrupted" else "clean"

    def everything(self, goal: str, seed: int) -> Samples:
        """Return the pictures that are trained on."""
        return self._data(goal, seed, "train", range(TRAIN))

    def world(self, goal: str, seed: int) -> World:
        """Return what leaves, what stays and what judges; `val` has true labels, `test` false ones."""
        drawn = self._folder(goal, seed)[1]
        places = drawn.places(goal)
        of_kind = "test" if goal == "corrupted" else "val"
        splits = {
            "forget": "train",
            "retain": "train",
            "test": "val",
            "unseen": of_kind,
            "calibration": of_kind,
        }
        found = {name: self._data(goal, seed, split, places[name]) for name, split in splits.items()}
        return World(goal, **found, classes=drawn.classes(goal))

    def _data(self, goal: str, seed: int, split: str, numbers: Iterable[int]) -> Samples:
        found, wanted = self._folder(goal, seed)[0], set(numbers)
        chosen = [s for s in found.samples if s.split == split and int(Path(s.path).stem) in wanted]
        return samples_of(self.opened, found.root, found.config, chosen)

    def _folder(self, goal: str, seed: int) -> tuple[Scan, Drawn]:
        key = seed, self.variant(goal)
        if key not in self._kept:
            drawn = Drawn.of(self._source, seed, key[1] == "corrupted", SIZES)
            root = self._root / f"{seed}-{key[1]}"
            said = torch.where(drawn.corrupted, drawn.wrong[:TRAIN], drawn.y[:TRAIN])
            for number, picture in enumerate(drawn.x.numpy()):
                places = [("val", drawn.y), ("test", drawn.wrong)] if number >= TRAIN else [("train", said)]
                for split, labels in places:
                    path = root / split / NAMES[int(labels[number])] / f"{number:05d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture).convert("RGB").save(path)
            self._kept[key] = scan(root), drawn
        return self._kept[key]


def suite(*, data: Path, quick: bool = False, device: str = "cpu", **_: Any) -> FashionYolo:
    """Methods on YOLO26n-cls and Fashion-MNIST."""
    root = Path(tempfile.mkdtemp(prefix="fashion-"))  # samples are read when they are asked for
    return FashionYolo(data, root, epochs=QUICK_EPOCHS if quick else EPOCHS, device=device)


if __name__ == "__main__":
    main(suite, references=3, seeds=3, needs_data=True)
