# SPDX-License-Identifier: Apache-2.0
"""What a trial stands on: data split anew, and models trained on the parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import TensorDataset

from expunge.storage.hashing import keyed_hash
from expunge.tasks.module import ModuleTask
from expunge.tasks.protocol import Samples, Task
from expunge.tasks.vectorised import retrain_many


@dataclass(frozen=True)
class Sizes:
    """How large a trial is.

    Attributes:
        forget, retain, unseen, guard: Samples of each part.
        epochs, lr, batch: Of every training.
        noise: Share of labels that are wrong, in all parts alike: what a model can only know by heart.
    """

    forget: int
    retain: int
    unseen: int
    guard: int
    epochs: int
    lr: float
    batch: int
    noise: float


class World(Protocol):
    """Data and trainings of one trial."""

    task: Task
    forget: Samples
    retain: Samples
    unseen: Samples
    guard: Samples
    both: Samples
    half: Samples
    wrong: Samples
    lr: float

    def train(self, part: Samples, names: Sequence[str]) -> list[nn.Module]:
        """Return a model for every name, trained on a part; the name says all that is random."""
        ...


class Digits:
    """scikit-learn's digits and a small network; labels wrong at a stated rate; all parts disjoint."""

    def __init__(self, trial: int, sizes: Sizes) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        x = torch.tensor(found.data / 16, dtype=torch.float32)
        y = torch.tensor(found.target, dtype=torch.int64)
        generator = torch.Generator().manual_seed(keyed_hash(trial, "split") >> 1)
        order = torch.randperm(len(x), generator=generator)
        wrong = torch.rand(len(y), generator=generator) < sizes.noise
        y = torch.where(wrong, (y + torch.randint(1, 10, y.shape, generator=generator)) % 10, y)
        ends = torch.tensor([sizes.forget, sizes.retain, sizes.unseen, sizes.guard]).cumsum(0).tolist()
        if ends[-1] > len(x):
            raise SystemExit(f"{ends[-1]} samples are asked for, and there are {len(x)}.")
        parts = [order[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        self.forget, self.retain, self.unseen, self.guard = (TensorDataset(x[i], y[i]) for i in parts)
        everything, some = torch.cat(parts[:2]), torch.cat([parts[0][: sizes.forget // 2], parts[1]])
        self.both, self.half = TensorDataset(x[everything], y[everything]), TensorDataset(x[some], y[some])
        shift = torch.randint(1, 10, (sizes.forget,), generator=generator)
        false = torch.cat([(y[parts[0]] + shift) % 10, y[parts[1]]])
        self.wrong = TensorDataset(x[everything], false)
        self.task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
        self.start = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        self.trial, self.sizes, self.lr = trial, sizes, sizes.lr

    def __enter__(self) -> Digits:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left to clear away."""

    def train(self, part: Samples, names: Sequence[str]) -> list[nn.Module]:
        """Return a model for every name, trained on a part."""
        sizes = self.sizes
        generators = [torch.Generator().manual_seed(keyed_hash(self.trial, n) >> 1) for n in names]
        how: dict[str, Any] = {
            "epochs": sizes.epochs, "images": lambda count: None, "lr": sizes.lr, "batch": sizes.batch,
        }  # fmt: skip
        if len(names) == 1:  # several at once give the same weights, and pay from two on
            return [self.task.retrain(self.start, part, generator=generators[0], **how)]
        return retrain_many(self.task, self.start, part, generators=generators, **how)
