# SPDX-License-Identifier: Apache-2.0
"""The least that a method's work can cost: its own batches, in the plainest loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from expunge.methods.base import FORWARD, Budget
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Samples, Task

STEPS, REPEATS = 6, 2
IN_TRAINING = ("msg",)  # methods whose batch norm works as in training


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a batch whatever its size, and of each sample in it."""

    batch: float
    sample: float

    def seconds(self, batches: float, samples: float) -> float:
        """Return what so many batches of so many samples in all cost."""
        return batches * self.batch + samples * self.sample


@dataclass
class Work:
    """What a method did: batches and samples in all of one kind of pass."""

    batches: float = 0.0
    samples: float = 0.0

    def add(self, samples: float, size: int) -> None:
        """Count one charge: a batch, or several of the given size."""
        self.batches += max(samples // size, 1)
        self.samples += samples


@dataclass
class Ledger(Budget):
    """A budget that remembers what it was charged for.

    Attributes:
        size: Samples in a full batch.
        training: Forward and backward passes.
        looking: Forward passes alone.
    """

    size: int = 1
    training: Work = field(default_factory=Work)
    looking: Work = field(default_factory=Work)

    def charge(self, samples: int, share: float = 1.0) -> None:
        """Count work; see the parent."""
        super().charge(samples, share)
        whole = int(share + 1e-9)
        for _ in range(whole):
            self.training.add(samples, self.size)
        for _ in range(round((share - whole) / FORWARD)):
            self.looking.add(samples, self.size)


@dataclass(frozen=True)
class Floor:
    """What training passes and forward passes cost."""

    training: Cost
    looking: Cost

    def seconds(self, work: Ledger) -> float:
        """Return the floor of some work."""
        return sum(
            cost.seconds(done.batches, done.samples)
            for cost, done in ((self.training, work.training), (self.looking, work.looking))
        )


def measure_floor(task: Task, model: nn.Module, data: Samples, batch: int, statistics: bool = False) -> Floor:
    """Measure batches of ``batch`` samples and of a quarter of them, with and without a step.

    Args:
        task, model, data, batch: As the method has them.
        statistics: Whether batch norm uses the statistics of the batch, as in training.
    """
    student = task.clone(model)
    for module in student.modules():
        module.training = statistics and isinstance(module, nn.modules.batchnorm._BatchNorm)
    optimizer = adamw(task.parameters(student).values(), lr=0.0, weight_decay=0.0)

    def step(items: list[object]) -> None:
        loss = task.loss(student, task.collate(items)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.no_grad()
    def look(items: list[object]) -> None:
        task.loss(student, task.collate(items))

    return Floor(_cost(step, data, batch), _cost(look, data, batch))


def lower(one: Floor, other: Floor, batch: int) -> Floor:
    """Return of each kind of pass the measurement at which a batch costs less."""

    def least(costs: tuple[Cost, Cost]) -> Cost:
        return min(costs, key=lambda cost: cost.seconds(1, batch))

    return Floor(least((one.training, other.training)), least((one.looking, other.looking)))


def _cost(work: Callable[[list[object]], None], data: Samples, batch: int) -> Cost:
    many = min(batch, len(data))
    few = max(many // 4, 2)
    if few >= many:
        return Cost(0.0, _seconds(work, data, many) / many)
    long, short = _seconds(work, data, many), _seconds(work, data, few)
    sample = min(max((long - short) / (many - few), 0.0), long / many)
    return Cost(long - many * sample, sample)


def _seconds(work: Callable[[list[object]], None], data: Samples, batch: int) -> float:
    """Return the CPU seconds of one batch: the fastest of some repeats."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        for step in range(STEPS):
            work([data[(step * batch + i) % len(data)] for i in range(batch)])
        best = min(best, time.process_time() - began)
    return best / STEPS


def warm_up() -> None:
    """Let torch import what it imports at the first step of an optimizer, outside of any measurement."""
    layer = nn.Linear(1, 1)
    optimizer = adamw(layer.parameters(), lr=0.0, weight_decay=0.0)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
