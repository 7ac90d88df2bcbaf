# SPDX-License-Identifier: Apache-2.0
"""Suite ``fashion``: a small residual network on Fashion-MNIST.

``python -m benchmarks fashion --data FOLDER``; the folder holds the ``…-ubyte.gz`` files, as Debian's
package ``dataset-fashion-mnist`` installs them. To keep it learnt by heart, and affordable, 2,000 pictures
are trained on, without augmentation, and 3,000 others judge.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.methods.command import main
from benchmarks.methods.worlds import ModuleSuite, World, pick
from expunge.errors import InputError
from expunge.tasks.protocol import Samples

TRAIN, GUARD, TEST = 2000, 1000, 3000
SHARE = 0.1
EPOCHS, QUICK_EPOCHS = 40, 5
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
MAGIC = {3: 2051, 1: 2049}


class Block(nn.Module):
    """Two convolutions beside a shortcut; (B, in, H, W) -> (B, out, H/stride, W/stride)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        inner = self.norms[1](self.second(self.norms[0](self.first(x)).relu()))
        out: torch.Tensor = (inner + self.shortcut(x)).relu()
        return out


def network() -> nn.Module:
    """Return an untrained residual network for pictures (B, 1, 28, 28)."""
    blocks = [Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    stem = [nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def read(folder: Path, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return what an idx file holds, also a compressed one.

    Raises:
        InputError: If it is missing, or is no such file.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise InputError(
            f"{name} is not in {folder}.",
            "The suite needs the idx files of Fashion-MNIST.",
            "Install Debian's package dataset-fashion-mnist, and give the folder that it fills.",
        )
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dimensions = data[3] if len(data) > 3 else 0
    shape = np.frombuffer(data, ">u4", dimensions, 4) if len(data) >= 4 + 4 * dimensions else np.zeros(1)
    size = 4 + 4 * dimensions + int(np.prod(shape, dtype=np.int64))
    if int.from_bytes(data[:4], "big") != MAGIC.get(dimensions) or len(data) != size:
        raise InputError(f"{path.name} is no whole idx file.", "", "Fetch it again.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@dataclass(frozen=True)
class Drawn:
    """Pictures drawn for a seed: first those trained on, then those that calibrate, then those that judge.

    Attributes:
        x: Pictures (n, 28, 28), uint8.
        y: True labels (n,).
        wrong: A false label for each (n,).
        leaves: For every goal which of those trained on leave (train,).
        label: The class of the goal ``class``.
        corrupted: Which of those trained on have the false label (train,).
        guard: How many calibrate.
    """

    x: torch.Tensor
    y: torch.Tensor
    wrong: torch.Tensor
    leaves: dict[str, torch.Tensor]
    label: int
    corrupted: torch.Tensor
    guard: int

    def places(self, goal: str) -> dict[str, list[int]]:
        """Return the numbers of the pictures in each set of a world; see :class:`World`."""
        leaves = self.leaves[goal]
        judge = len(leaves) + self.guard
        calibration, test = list(range(len(leaves), judge)), list(range(judge, len(self.y)))
        unseen = test
        if goal == "class":
            calibration, unseen = (
                [n for n in part if self.y[n] == self.label] for part in (calibration, test)
            )
            test = [n for n in test if self.y[n] != self.label]
        return {
            "forget": leaves.nonzero().flatten().tolist(),
            "retain": (~leaves).nonzero().flatten().tolist(),
            "test": test,
            "unseen": unseen,
            "calibration": calibration,
        }

    def classes(self, goal: str) -> tuple[int, ...]:
        """Return the classes that a goal removes."""
        return (self.label,) if goal == "class" else ()

    @classmethod
    def of(cls, folder: Path, seed: int, noisy: bool, sizes: tuple[int, int, int]) -> Drawn:
        """Draw.

        Args:
            folder: Of the data.
            seed: Draws the split, and what leaves.
            noisy: Whether a tenth of what is trained on is mislabelled.
            sizes: How many are trained on, calibrate and judge.
        """
        generator = torch.Generator().manual_seed(seed)
        train, total = sizes[0], sum(sizes)
        pictures, labels = (read(folder, name) for name in FILES)
        chosen = torch.randperm(len(labels), generator=generator)[:total].numpy()
        x, y = torch.tensor(pictures[chosen]), torch.tensor(labels[chosen], dtype=torch.int64)
        wrong = (y + torch.randint(1, 10, y.shape, generator=generator)) % 10
        corrupted = torch.arange(train) < (SHARE * train if noisy else 0)
        drawn = torch.zeros(train, dtype=torch.bool)
        drawn[torch.randperm(train, generator=generator)[: round(SHARE * train)]] = True
        label = int(torch.randint(10, (1,), generator=generator))
        leaves = {"random": drawn, "class": y[:train] == label, "corrupted": corrupted}
        return cls(x, y, wrong, leaves, label, corrupted, sizes[1])


def parts(folder: Path, seed: int, noisy: bool) -> tuple[Samples, Callable[[str], World]]:
    """Return what is trained on, and a function from a goal to what leaves and what judges; see `Drawn`."""
    drawn = Drawn.of(folder, seed, noisy, (TRAIN, GUARD, TEST))
    x, y = drawn.x.float()[:, None] / 255, drawn.y
    train = list(zip(x, torch.where(drawn.corrupted, drawn.wrong[:TRAIN], y[:TRAIN]), strict=False))
    true, false = (list(zip(x, labels, strict=True)) for labels in (y, drawn.wrong))

    def world(goal: str) -> World:
        places = drawn.places(goal)
        of_kind = false if goal == "corrupted" else true
        return World(
            goal,
            pick(train, places["forget"]),
            pick(train, places["retain"]),
            pick(true, places["test"]),
            pick(of_kind, places["unseen"]),
            pick(of_kind, places["calibration"]),
            drawn.classes(goal),
        )

    return train, world


def suite(*, data: Path, quick: bool = False, device: str = "cpu", **_: Any) -> ModuleSuite:
    """Methods on Fashion-MNIST."""
    epochs = QUICK_EPOCHS if quick else EPOCHS
    return ModuleSuite(
        "fashion",
        f"{TRAIN} pictures of Fashion-MNIST (for `corrupted` a tenth of them mislabelled), {epochs} epochs "
        "of a small residual network",
        ("random", "class", "corrupted"),
        epochs,
        network,
        {"lr": 3e-3, "batch": 50},
        partial(parts, data),
        device=device,
    )


if __name__ == "__main__":
    main(suite, references=3, seeds=3, needs_data=True)
