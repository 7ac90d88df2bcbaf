# SPDX-License-Identifier: Apache-2.0
"""Training on wrong targets, which random labels and SalUn share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from expunge.methods.base import Loop
from expunge.tasks.protocol import Samples


def relabelled(
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
    """Descend on E_F ℓ(x, y′) + α·E_R ℓ(x, y), y′ drawn anew among the wrong targets at every visit.

    Args:
        student: Is changed.
        forget: Gets wrong targets; an epoch is one pass over it.
        retain: Gives a batch beside every forget batch.
        loop: Draws and is charged.
        optimizer: Of the parameters to change.
        alpha: α, the weight of the retain loss.
        epochs: Passes over the forget set.
        batch: Samples in a batch, of either set.
        change: What to do to the gradients before they are used.
    """
    task = loop.task
    partners = loop.endless(retain, batch)
    for _ in range(epochs):
        for (_, leaving), (_, staying) in zip(loop.batches(forget, batch), partners, strict=False):
            wrong = task.wrong_targets(student, leaving, loop.generator)
            parts = ((wrong, 1.0), (staying, alpha))
            loop.step(optimizer, (w * task.loss(student, part).mean() for part, w in parts), change)
        loop.round(student)
        if loop.exhausted:
            break
