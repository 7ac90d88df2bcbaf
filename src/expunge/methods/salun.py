# SPDX-License-Identifier: Apache-2.0
"""SalUn: random labels, with updates restricted to the weights that are salient for the forget set.

Rule::

    m = 1[ |∇_θ E_{z ∈ F} ℓ(θ_o; z)| ≥ γ ],   γ = median of |∇_θ E_F ℓ(θ_o)| over all weights
    θ = θ_o + m ⊙ Δ,   Δ ← argmin  E_{(x, y) ∈ F} ℓ(θ; x, y′) + α·E_{z ∈ R} ℓ(θ; z),   y′ ≠ y at random

F, R: the forget and the retain set; ℓ: the task's loss; θ_o: the original weights; m: the saliency mask,
computed once; y′: a wrong target (``Task.wrong_targets``); α: the weight of the retain set.

Reference: Fan, Liu, Zhang, Wong, Wei, Liu, *SalUn: Empowering Machine Unlearning via Gradient-based Weight
Saliency in Both Image Classification and Generation*, ICLR 2024.

Differences:
    - The threshold is the paper's median even if it is zero (then every weight is salient); the authors'
      code ranks the weights and takes exactly half.
    - An epoch is a pass over the forget set, with a new retain batch for every forget batch; the authors
      iterate over the forget set and then over the retain set.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.methods.base import Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import LeastWork, SetSizes, both_batches, exact_work
from expunge.methods.relabel import train_on_wrong_targets
from expunge.tasks.protocol import Samples, Task


def saliency_mask(
    model: nn.Module, forget: Samples, loop: Loop, batch: int
) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Return every trainable parameter with its mask (bool, same shape).

    Args:
        model: A model ready for training; its weights do not change.
        forget: F.
        loop: Charged one pass over F.
        batch: Samples per batch.

    Raises:
        BudgetSpent: If the budget does not suffice for the gradient of the whole forget set.
    """
    parameters = list(loop.task.parameters(model).values())
    total = [torch.zeros_like(p) for p in parameters]
    for _, samples in loop.batches(forget, batch, shuffle=False):
        loss = loop.task.loss(model, samples).sum() / len(forget)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for sums, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                sums += gradient
    if loop.exhausted:
        raise BudgetSpent(
            "The budget does not suffice for this method.",
            "The saliency mask needs one pass over the whole forget set.",
            "Raise the budget, or choose a cheaper method.",
        )
    magnitudes = torch._foreach_abs(total)
    flattened = torch.cat([s.flatten() for s in magnitudes])
    median = flattened.kthvalue(len(flattened) // 2 + 1).values  # the upper median of an even number
    return [(p, s >= median) for p, s in zip(parameters, magnitudes, strict=True)]


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of the gradient over the forget set and a batch of each set."""
    return exact_work(sizes.forget + both_batches(sizes, values).enough)


@register(
    "salun",
    goals=("sample", "subject", "class"),
    cost=2,
    paper="Fan, Liu, Zhang, Wong, Wei, Liu: SalUn, Gradient-based Weight Saliency. ICLR 2024",
    least=_least,
)
def salun(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    alpha: float = 1.0,
    lr: float = 1e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model with salient weights trained on wrong targets.

    Args:
        alpha: α, the weight of the retain loss.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples per batch, for each set.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    masks = saliency_mask(student, forget, loop, batch)
    optimizer = loop.optimizer(student, lr)

    def keep_salient() -> None:
        for parameter, mask in masks:
            if parameter.grad is not None:
                parameter.grad *= mask

    # AdamW without weight decay does not change weights whose gradients were always zero.
    train_on_wrong_targets(
        student, forget, retain, loop, optimizer, alpha=alpha, epochs=epochs, batch=batch, change=keep_salient
    )
    return student
