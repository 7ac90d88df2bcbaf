# SPDX-License-Identifier: Apache-2.0
"""Tiny YOLO26 detectors (its own two heads on a few convolutions) on generated scenes, for audits."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from benchmarks.audits.worlds import Sizes
from expunge.data.scan import scan
from expunge.data.types import Sample
from expunge.storage.hashing import keyed_hash
from expunge.tasks.protocol import Samples
from expunge.tasks.weights import build_module, open_source, pack
from expunge.tasks.yolo import open_model, samples_of, yolo_task

IMGSZ, SMALLEST = 32, 7  # pixels: of a picture, of a shape
NAMES = ("disc", "box", "bar")
ARCHITECTURE = """\
nc: 3
end2end: True
reg_max: 1
scales:
  n: [0.50, 0.50, 1024]
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 1]]
  - [-1, 1, C3k2, [128, False, 0.25]]
head:
  - [[3], 1, Detect, [nc]]
"""


COMMON, COMMON_EPOCHS = 300, 30  # scenes, passes over them


@cache
def common_start() -> dict[str, torch.Tensor]:
    """Return the weights that every training starts from: of a detector of other scenes, rightly named.

    So a few passes suffice to know the scenes of a trial by heart, and a model without them is of use, too.
    """
    sizes = Sizes(0, COMMON, 1, 0, COMMON_EPOCHS, 5e-3, 16, 0.0)
    with Detectors(-1, sizes, common=False) as world:
        return world.train(world.retain, ["common start"])[0].state_dict()


class Detectors:
    """Scenes of two shapes; names wrong at a stated rate, which can only be known by heart.

    Used as a context manager: the pictures lie in a temporary folder.
    """

    def __init__(self, trial: int, sizes: Sizes, *, common: bool = True) -> None:
        self.start = common_start() if common else None
        self.trial, self.sizes, self.lr = trial, sizes, sizes.lr
        self.folder = Path(tempfile.mkdtemp(prefix="expunge-trial-"))
        counts = {
            "forget": sizes.forget, "retain": sizes.retain, "unseen": sizes.unseen, "guard": sizes.guard,
        }  # fmt: skip
        generator = np.random.default_rng(keyed_hash(trial, "scenes"))
        for part, count in counts.items():
            for i in range(count):
                split = "train" if part in ("forget", "retain") else "val"
                _draw(self.folder / "data", split, f"{part}{i:04d}", generator, sizes.noise)
        text = "path: .\ntrain: images/train\nval: images/val\nnames: [disc, box, bar]\n"
        (self.folder / "data" / "data.yaml").write_text(text)
        for i in range(sizes.forget):
            _misname(self.folder / "data", f"forget{i:04d}", f"wrong{i:04d}", generator)
        found = scan(self.folder / "data" / "data.yaml")
        counts = {**counts, "wrong": sizes.forget}
        rows = {name: [s for s in found.samples if f"/{name}" in s.path] for name in counts}
        if any(len(rows[name]) != count for name, count in counts.items()):
            raise RuntimeError(f"not all of {counts} were found")
        weights = self.folder / "start.pt"
        file = self.folder / "tiny-yolo26n.yaml"
        file.write_text(ARCHITECTURE)
        torch.manual_seed(0)
        record = {
            "task": "detect", "imgsz": IMGSZ, "batch": sizes.batch, "epochs": sizes.epochs,
            "optimizer": "AdamW", "lr0": sizes.lr, "lrf": 0.01, "warmup_epochs": 0.0, "mosaic": 0.0,
            "scale": 0.0, "translate": 0.0, "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
            "erasing": 0.0,
        }  # fmt: skip
        weights.write_bytes(pack(build_module("detect", open_source(str(file)).architecture, NAMES), record))
        opened = self.opened = open_model(weights)
        self.task = yolo_task(opened)

        def data(samples: Sequence[Sample]) -> Samples:
            return samples_of(opened, found.root, found.config, samples)

        self.forget, self.retain, self.unseen, self.guard = (
            data(rows[name]) for name in ("forget", "retain", "unseen", "guard")
        )
        self.both = data([*rows["retain"], *rows["forget"]])
        self.wrong = data([*rows["retain"], *rows["wrong"]])
        self.half = data([*rows["retain"], *rows["forget"][: sizes.forget // 2]])

    def __enter__(self) -> Detectors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def train(self, part: Samples, names: Sequence[str]) -> list[nn.Module]:
        """Return a model for every name, trained on a part."""
        return [
            self.task.retrain(
                self.opened.module,
                part,
                epochs=self.sizes.epochs,
                generator=torch.Generator().manual_seed(keyed_hash(self.trial, name) >> 1),
                images=lambda count: None,
                initial=self.start,
            )
            for name in names
        ]


def _draw(root: Path, split: str, name: str, generator: np.random.Generator, noise: float) -> None:
    pixels = generator.integers(0, 90, (8, 8, 3)).astype("uint8")
    picture = Image.fromarray(pixels).resize((IMGSZ, IMGSZ), Image.Resampling.BICUBIC)
    draw, lines = ImageDraw.Draw(picture), []
    for _ in range(2):
        kind, side = int(generator.integers(0, 3)), int(generator.integers(SMALLEST, 2 * SMALLEST))
        x, y = (int(v) for v in generator.integers(1, IMGSZ - side - 1, 2))
        colour = tuple(int(v) for v in generator.integers(130, 255, 3))
        height = side // 3 if kind == 2 else side
        shape = draw.ellipse if kind == 0 else draw.rectangle
        shape((x, y, x + side, y + height), fill=colour)
        if generator.random() < noise:
            kind = (kind + int(generator.integers(1, 3))) % 3
        centre = (x + side / 2) / IMGSZ, (y + height / 2) / IMGSZ
        lines.append(f"{kind} {centre[0]:.5f} {centre[1]:.5f} {side / IMGSZ:.5f} {height / IMGSZ:.5f}")
    image, label = root / "images" / split / f"{name}.png", root / "labels" / split / f"{name}.txt"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(image)
    label.write_text("\n".join(lines) + "\n")


def _misname(root: Path, name: str, wrong: str, generator: np.random.Generator) -> None:
    """Copy a picture of the training split under another name, with other names for what is in it."""
    shutil.copy(root / "images/train" / f"{name}.png", root / "images/train" / f"{wrong}.png")
    lines = []
    for line in (root / "labels/train" / f"{name}.txt").read_text().splitlines():
        kind, rest = line.split(" ", 1)
        lines.append(f"{(int(kind) + int(generator.integers(1, 3))) % 3} {rest}")
    (root / "labels/train" / f"{wrong}.txt").write_text("\n".join(lines) + "\n")
