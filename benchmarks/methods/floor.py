# SPDX-License-Identifier: Apache-2.0
"""The least that passes can cost: loading, forward, backward and optimizer step, in the plainest loop."""

from __future__ import annotations

import time

import torch
from torch import nn

from expunge.tasks.protocol import Samples, Task

STEPS, REPEATS = 6, 2


def seconds_per_pass(task: Task, model: nn.Module, data: Samples, batch: int) -> float:
    """Return the CPU seconds of one sample's pass in batches of ``batch``: the fastest of some repeats."""
    student = task.clone(model)
    parameters = list(task.parameters(student).values())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    batch, best = min(batch, len(data)), float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        for step in range(STEPS):
            items = [data[(step * batch + i) % len(data)] for i in range(batch)]
            loss = task.loss(student, task.collate(items)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        best = min(best, time.process_time() - began)
    return best / (STEPS * batch)


def warm_up() -> None:
    """Let torch import what it imports at the first step of an optimizer, outside of any measurement."""
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.0)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
