# SPDX-License-Identifier: Apache-2.0
"""SalUn: random labels, learnt only by the weights that the forget set depends on.

Rule::

    m = 1[ |∇_θ E_{z ∈ F} ℓ(θ_o; z)| ≥ γ ],   γ = median of |∇_θ E_F ℓ(θ_o)| over all weights
    θ = θ_o + m ⊙ Δ,   Δ ← argmin  E_{(x, y) ∈ F} ℓ(θ; x, y′) + α·E_{z ∈ R} ℓ(θ; z),   y′ ≠ y at random

F, R: the forget and the retain set; ℓ: the task's loss; θ_o: the original weights; m: the saliency mask,
computed once; y′: a wrong target (``Task.wrong_targets``); α: the weight of the retain set.

Reference: Fan, Liu, Zhang, Wong, Wei, Liu, *SalUn: Empowering Machine Unlearning via Gradient-based Weight
Saliency in Both Image Classification and Generation*, ICLR 2024.

Differences:
    - The threshold is the paper's median, also where that is zero (then every weight is salient); the
      authors' code ranks and takes exactly half.
    - An epoch is a pass over the forget set, with a new retain batch beside every forget batch; the authors
      run over forget set and retain set one after the other.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.methods.base import Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import LeastWork, Sizes, both_batches, exactly
from expunge.methods.relabel import relabelled
from expunge.tasks.protocol import Samples, Task


def saliency_mask(
    model: nn.Module, forget: Samples, loop: Loop, batch: int
) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Return every parameter that may change, with its mask (bool, of the same shape).

    Args:
        model: Ready to learn; its weights do not change.
        forget: F.
        loop: Is charged one pass over F.
        batch: Samples in a batch.

    Raises:
        BudgetSpent: If the budget does not suffice for the gradient of the whole forget set.
    """
    parameters = list(loop.task.parameters(model).values())
    total = [torch.zeros_like(p) for p in parameters]
    for _, samples in loop.batches(forget, batch, shuffle=False):
        loss = loop.task.loss(model, samples).sum() / len(forget)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        for sums, gradient in zip(total, found, strict=True):
            if gradient is not None:
                sums += gradient
    if loop.exhausted:
        raise BudgetSpent(
            "The budget does not suffice for this method.",
            "The saliency mask needs one pass over the whole forget set.",
            "Raise the budget, or choose a cheaper method.",
        )
    sizes = torch._foreach_abs(total)
    everything = torch.cat([s.flatten() for s in sizes])
    median = everything.kthvalue(len(everything) // 2 + 1).values  # of an even number, the upper one
    return [(p, s >= median) for p, s in zip(parameters, sizes, strict=True)]


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the gradient of the whole forget set, and a batch of either set."""
    return exactly(sizes.forget + both_batches(sizes, values).enough)


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
    """Return the model whose salient weights learnt wrong targets.

    Args:
        alpha: α, the weight of the retain loss.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples in a batch, of either set.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    masks = saliency_mask(student, forget, loop, batch)
    optimizer = loop.optimizer(student, lr)

    def keep_salient() -> None:
        for parameter, mask in masks:
            if parameter.grad is not None:
                parameter.grad *= mask

    # AdamW without weight decay moves nothing whose gradients were always zero.
    relabelled(
        student, forget, retain, loop, optimizer, alpha=alpha, epochs=epochs, batch=batch, change=keep_salient
    )
    return student
