# SPDX-License-Identifier: Apache-2.0
"""SSD, selective synaptic dampening: shrink weights much more important to the forget set than to all data.

Rule::

    θᵢ ← min(λ · I_D,ᵢ / I_F,ᵢ, 1) · θᵢ   where  I_F,ᵢ > α · I_D,ᵢ

I_S: mean over S of the squared gradient of the loss (the diagonal Fisher information); F: the forget set;
D: all data, including F; α: the ratio of importances above which a weight is dampened; λ: the strength of the
dampening (lower is stronger).

Reference: Foster, Schoepf, Brintrup, *Fast Machine Unlearning without Retraining through Selective Synaptic
Dampening*, AAAI 2024.

Differences: the paper uses the gradients of single samples, but its authors' code squares the mean gradient
of a mini-batch, to which α = 10 belongs. The default here (``averaged``, 16 samples) follows the code. With
single samples, I_D ≥ (|F|/|D|) · I_F, so that no weight can be selected once |F|/|D| ≥ 1/α. If the budget
does not suffice, I_D is estimated on a random part of D.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.fisher import CHUNK_SAMPLES, TRIED, Value, importance
from expunge.methods.least import LeastWork, SetSizes, exact_work, first_batch
from expunge.tasks.protocol import Samples, Task


def dampen(
    weights: torch.Tensor, on_all: torch.Tensor, on_forget: torch.Tensor, alpha: float, dampening: float
) -> torch.Tensor:
    """Return the weights after the rule; all tensors have the same shape.

    Args:
        weights: θ.
        on_all: I_D.
        on_forget: I_F.
        alpha: α.
        dampening: λ.
    """
    factor = (dampening * on_all / on_forget.clamp(min=torch.finfo(on_forget.dtype).tiny)).clamp(max=1)
    return torch.where(on_forget > alpha * on_all, weights * factor, weights)


def dampened_copy(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    loop: Loop,
    value: Value,
    *,
    squared: bool,
    alpha: float,
    dampening: float,
    averaged: int,
) -> nn.Module:
    """Return a dampened copy of a model; for ``value`` see :func:`expunge.methods.fisher.importance`."""
    student = loop.task.clone(model)
    on_forget, _ = importance(loop, student, forget, value, squared=squared, batch=averaged)
    everything: Samples = ConcatDataset([retain, forget])  # type: ignore[list-item]
    on_all, seen = importance(loop, student, everything, value, squared=squared, batch=averaged)
    if not seen:
        loop.budget.charge(len(everything))
    with torch.no_grad():
        for name, weights in loop.task.parameters(student).items():
            weights.copy_(dampen(weights, on_all[name], on_forget[name], alpha, dampening))
    loop.budget.steps += 1
    loop.round(student)
    return student


def least_dampening(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of the gradients over the forget set and a first batch of all data."""
    everything = sizes.forget + sizes.retain
    if values["averaged"] > 1:
        return exact_work(sizes.forget + first_batch(everything, values, "averaged"))
    return LeastWork(2, sizes.forget + min(CHUNK_SAMPLES, everything) + 2 * TRIED)


@register(
    "ssd",
    goals=("sample", "subject", "class"),
    cost=1.3,
    paper="Foster, Schoepf, Brintrup: Selective Synaptic Dampening. AAAI 2024",
    strength=("alpha", 0.5),
    least=least_dampening,
)
def ssd(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    alpha: float = 10.0,
    dampening: float = 1.0,
    averaged: int = 16,
) -> nn.Module:
    """Return the model with dampened weights.

    Args:
        alpha: α, how many times more important to F than to D a weight must be; lower forgets more.
        dampening: λ; lower dampens more.
        averaged: Number of samples whose gradients are averaged before squaring; 1 gives the Fisher
            information.

    Raises:
        BudgetSpent: If the budget does not suffice for the forget set.
    """
    return dampened_copy(
        model,
        forget,
        retain,
        Loop(task, generator, budget, progress),
        task.loss,
        squared=True,
        alpha=alpha,
        dampening=dampening,
        averaged=averaged,
    )
