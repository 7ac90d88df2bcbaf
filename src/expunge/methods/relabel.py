# SPDX-License-Identifier: Apache-2.0
"""Training on wrong targets, for random labels and SalUn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from expunge.methods.base import Loop
from expunge.tasks.protocol import Samples


def train_on_wrong_targets(
    student: nn.Module,
    forget: Samples,
    retain: Samples,
    loop: Loop,
    optimizer: torch.optim.Optimizer,
    *,
    alpha: float,
    epochs: int,
    batch: int,
    change: Callable[[], None] | None = None,
) -> None:
    """Descend on E_F ℓ(x, y′) + α·E_R ℓ(x, y), with y′ redrawn from the wrong targets at every visit.

    Args:
        student: The model; it is changed.
        forget: F; an epoch is one pass over it.
        retain: R; it gives one batch for every batch of F.
        loop: Draws the batches and is charged for them.
        optimizer: Optimizer of the trainable parameters.
        alpha: α, the weight of the retain loss.
        epochs: Passes over the forget set.
        batch: Samples per batch, for each set.
        change: Modifies the gradients before each step.
    """
    task = loop.task
    retain_batches = loop.endless(retain, batch)
    for _ in range(epochs):
        for (_, forget_batch), (_, retain_batch) in zip(
            loop.batches(forget, batch), retain_batches, strict=False
        ):
            wrong = task.wrong_targets(student, forget_batch, loop.generator)
            weighted = ((wrong, 1.0), (retain_batch, alpha))
            loop.step(optimizer, (w * task.loss(student, part).mean() for part, w in weighted), change)
        loop.round(student)
        if loop.exhausted:
            break
