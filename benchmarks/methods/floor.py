# SPDX-License-Identifier: Apache-2.0
"""The least that work can cost: loading, forward, backward and optimizer step, in the plainest loop."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from expunge.tasks.protocol import Samples, Task

STEPS, REPEATS = 6, 2


@dataclass(frozen=True)
class Floor:
    """CPU seconds of a step whatever its size, and of each sample in it."""

    step: float
    sample: float

    def seconds(self, steps: int, passes: float, batch: int) -> float:
        """Return the floor of some work; what makes no steps is taken to be in full batches."""
        return max(steps, passes / batch) * self.step + passes * self.sample


def measure_floor(task: Task, model: nn.Module, data: Samples, batch: int) -> Floor:
    """Measure steps of ``batch`` samples and of a quarter of them."""
    many = min(batch, len(data))
    few = max(many // 4, 2)
    if few >= many:
        return Floor(0.0, _seconds(task, model, data, many) / many)
    long, short = _seconds(task, model, data, many), _seconds(task, model, data, few)
    sample = min(max((long - short) / (many - few), 0.0), long / many)
    return Floor(long - many * sample, sample)


def lower(one: Floor, other: Floor, batch: int) -> Floor:
    """Return the floor at which a batch costs less."""
    return min(one, other, key=lambda floor: floor.seconds(1, batch, batch))


def _seconds(task: Task, model: nn.Module, data: Samples, batch: int) -> float:
    """Return the CPU seconds of a step: the fastest of some repeats."""
    student = task.clone(model)
    optimizer = torch.optim.AdamW(list(task.parameters(student).values()), lr=0.0, weight_decay=0.0)
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        for step in range(STEPS):
            items = [data[(step * batch + i) % len(data)] for i in range(batch)]
            loss = task.loss(student, task.collate(items)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        best = min(best, time.process_time() - began)
    return best / STEPS


def warm_up() -> None:
    """Let torch import what it imports at the first step of an optimizer, outside of any measurement."""
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.0)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
