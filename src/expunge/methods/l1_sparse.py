# SPDX-License-Identifier: Apache-2.0
"""Sparsity-aware fine-tuning: fine-tuning on the retain set with an ℓ1 penalty.

A sparser model has less capacity for data that is no longer used.

Rule::

    θ ← argmin over E epochs of  E_{z ∈ R} ℓ(θ; z) + γ_t·‖θ‖₁,   γ_t = γ·(1 − t/E),   t = 0 … E − 1

R: the retain set; ℓ: the task's loss; γ: the strength of the penalty, which decays linearly. The forget set
is not used.

Reference: Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, *Model Sparsity Can Simplify Machine Unlearning*,
NeurIPS 2023 (the "ℓ1-sparse MU" with its linearly decreasing schedule).

Differences:
    - The penalty applies to trainable weights only. Its gradient passes through AdamW together with the
      loss's: near an optimum, where the loss has almost no gradient, every weight shrinks by about the
      learning rate per step, whatever γ is.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.tasks.protocol import Samples, Task


def strength(gamma: float, epoch: int, epochs: int) -> float:
    """Return γ_t, from γ in the first epoch down to γ/E in the last."""
    return gamma * (1 - epoch / epochs)


@torch.no_grad()
def penalise(weights: list[torch.Tensor], gamma: float) -> None:
    """Add the gradient of γ·‖θ‖₁, which is γ·sign(θ), to the gradients of all weights."""
    gradients = []
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        gradients.append(weight.grad)
    torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=gamma)


@register(
    "l1_sparse",
    goals=("sample", "subject", "class"),
    cost=10,
    paper="Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu: Model Sparsity Can Simplify Machine Unlearning. "
    "NeurIPS 2023",
)
def l1_sparse(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    gamma: float = 5e-4,
    lr: float = 1e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model after sparsity-aware fine-tuning.

    Args:
        gamma: γ, the strength of the penalty in the first epoch.
        lr: Learning rate of AdamW.
        epochs: E, passes over the retain set.
        batch: Samples per batch.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    optimizer = loop.optimizer(student, lr)
    weights: list[torch.Tensor] = list(task.parameters(student).values())
    for epoch in range(epochs):
        epoch_gamma = strength(gamma, epoch, epochs)
        for _, samples in loop.batches(retain, batch):
            loop.step(optimizer, task.loss(student, samples).mean(), partial(penalise, weights, epoch_gamma))
        loop.round(student)
        if loop.exhausted:
            break
    return student
