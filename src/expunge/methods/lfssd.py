# SPDX-License-Identifier: Apache-2.0
"""LFSSD, loss-free selective synaptic dampening: SSD without labels.

Rule::

    θᵢ ← min(λ · I_D,ᵢ / I_F,ᵢ, 1) · θᵢ   where  I_F,ᵢ > α · I_D,ᵢ,   I_S = E_{x ∈ S} |∂ ‖f_θ(x)‖² / ∂θ|

f_θ(x): the model's outputs (logits); the other symbols are those of :mod:`expunge.methods.ssd`. No label is
used, so the forget set may be unlabelled.

Reference: Foster, Schoepf, Brintrup, *Loss-Free Machine Unlearning*, ICLR 2024 (Tiny Papers).

Differences: α = 3 instead of SSD's 10, because |g| is compared instead of g² (10 is about 3²). Mini-batch
means and estimates within the budget are as in :mod:`expunge.methods.ssd`.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.ssd import dampened_copy, least_dampening
from expunge.tasks.protocol import Batch, Samples, Task


@register(
    "lfssd",
    goals=("sample", "subject", "class"),
    cost=1.3,
    paper="Foster, Schoepf, Brintrup: Loss-Free Machine Unlearning. ICLR 2024",
    strength=("alpha", 0.5),
    least=least_dampening,
)
def lfssd(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    alpha: float = 3.0,
    dampening: float = 1.0,
    averaged: int = 16,
) -> nn.Module:
    """Return the model with dampened weights.

    Args:
        alpha: α, how many times more important to F than to D a weight must be; lower forgets more.
        dampening: λ; lower dampens more.
        averaged: Number of samples whose gradients are averaged.

    Raises:
        BudgetSpent: If the budget does not suffice for the forget set.
    """

    def square_norm(network: nn.Module, batch: Batch) -> torch.Tensor:
        return task.square_norm(task.outputs(network, batch))

    return dampened_copy(
        model,
        forget,
        retain,
        Loop(task, generator, budget, progress),
        square_norm,
        squared=False,
        alpha=alpha,
        dampening=dampening,
        averaged=averaged,
    )
