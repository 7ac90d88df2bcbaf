# SPDX-License-Identifier: Apache-2.0
"""What methods share that perturb inputs: gradients at the input, admissible values, batches made once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from expunge.methods.base import Loop
from expunge.tasks.protocol import Batch, Task


def input_gradient(task: Task, model: nn.Module, batch: Batch, inputs: torch.Tensor) -> torch.Tensor:
    """Return the gradient of every sample's loss with respect to its own input, shaped as the inputs."""
    with torch.enable_grad():
        x = inputs.detach().requires_grad_()
        return torch.autograd.grad(task.loss(model, task.with_inputs(batch, x)).sum(), x)[0]


def admissible(task: Task, batch: Batch, inputs: torch.Tensor) -> torch.Tensor:
    """Return the inputs, within the values that they may have."""
    limits = task.input_range(batch)
    return inputs if limits is None else inputs.clamp(*limits)


def breadth(task: Task, batch: Batch) -> float:
    """Return the width of the range of input values, or 1 (a standard deviation) where it is unbounded."""
    limits = task.input_range(batch)
    return 1.0 if limits is None else limits[1] - limits[0]


def across(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return one value for each sample (B,), shaped so that it can be multiplied with inputs (B, …)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Made:
    """A batch that a method made.

    Attributes:
        batch: To learn from.
        source: The batch that it was made of.
        usable: Which samples count (B,), bool.
    """

    batch: Batch
    source: Batch
    usable: torch.Tensor

    def mean(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the mean over the samples that count."""
        return (losses * self.usable).sum() / self.usable.sum().clamp(min=1)


def replay(loop: Loop, made: Sequence[Made], share: float = 1.0) -> Iterator[Made]:
    """Yield each batch once, in an order drawn anew; ends early where the budget does."""
    for place in torch.randperm(len(made), generator=loop.generator).tolist():
        size = loop.task.size(made[place].batch)
        if not loop.budget.covers(size, share):
            loop.exhausted = True
            return
        loop.budget.charge(size, share)
        yield made[place]
        loop.progress.images(size)
