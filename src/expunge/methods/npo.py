# SPDX-License-Identifier: Apache-2.0
"""Negative preference optimisation: an ascent that ends for each sample once it is forgotten.

Rule::

    θ ← argmin  E_{z ∈ F} (2/β)·log(1 + exp(−β·(ℓ(θ; z) − ℓ(θ_o; z)))) + α·E_{z ∈ R} ℓ(θ; z)

F, R: the forget and the retain set; ℓ: the task's loss; θ_o: the original weights, whose losses are computed
once; β: the inverse temperature; α: the weight of the retain set. The gradient of the first term is that of
ascent, −∇ℓ, times 2·σ(−β·(ℓ − ℓ_o)): 1 at the start and in the limit β → 0, and falling to 0 as ℓ grows.

Reference: Zhang, Lin, Bai, Mei, *Negative Preference Optimization: From Catastrophic Collapse to Effective
Unlearning*, COLM 2024 (eq. 3, with the retain term of "NPO+RT"; ℓ is −log π there).

Differences:
    - The paper treats language models, where ℓ is the loss of a whole answer, tens to hundreds of nats, and
      β = 0.1 bounds the ascent. The loss of a picture is a few nats; with β = 0.1 it could rise by about 30,
      so the default here is 1.
    - An epoch is a pass over the forget set, with a new retain batch for every forget batch.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import FORWARD, Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import LeastWork, SetSizes, both_batches, exact_work
from expunge.tasks.protocol import Batch, Samples, Task


def npo_loss(loss: torch.Tensor, start: torch.Tensor, beta: float) -> torch.Tensor:
    """Return (2/β)·log(1 + exp(−β·(ℓ − ℓ_o))) of every sample (B,).

    Args:
        loss: ℓ(θ; z) (B,).
        start: ℓ(θ_o; z) (B,), without a gradient.
        beta: β > 0.
    """
    return 2 / beta * nn.functional.softplus(-beta * (loss - start))


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of the forget set's original losses and a batch of each set."""
    return exact_work(FORWARD * sizes.forget + both_batches(sizes, values).enough)


@register(
    "npo",
    goals=("sample", "subject", "class"),
    cost=2,
    paper="Zhang, Lin, Bai, Mei: Negative Preference Optimization. COLM 2024",
    least=_least,
)
def npo(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    beta: float = 1.0,
    alpha: float = 1.0,
    lr: float = 1e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model after bounded ascent.

    Args:
        beta: β, the inverse temperature; the greater, the sooner a sample counts as forgotten.
        alpha: α, the weight of the retain loss.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples per batch, for each set.

    Raises:
        BudgetSpent: If the budget does not suffice for the original losses of the forget set.
        InputError: If β is 0.
    """
    if not beta > 0:
        raise InputError("β cannot be 0.", "The loss is divided by it.", "Give a small positive beta.")
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    with torch.no_grad():
        losses = [
            task.loss(student, samples) for _, samples in loop.batches(forget, batch, FORWARD, shuffle=False)
        ]
    if loop.exhausted:
        raise BudgetSpent(
            "The budget does not suffice for this method.",
            "It needs the original loss of every sample to forget.",
            "Raise the budget, or choose a cheaper method.",
        )
    start = torch.cat(losses)
    optimizer = loop.optimizer(student, lr)
    retain_batches = loop.endless(retain, batch)
    for _ in range(epochs):
        for (indices, forget_batch), (_, retain_batch) in zip(
            loop.batches(forget, batch), retain_batches, strict=False
        ):
            loop.step(
                optimizer, _loss_parts(task, student, forget_batch, start[indices], beta, retain_batch, alpha)
            )
        loop.round(student)
        if loop.exhausted:
            break
    return student


def _loss_parts(
    task: Task,
    student: nn.Module,
    forget_batch: Batch,
    start: torch.Tensor,
    beta: float,
    retain_batch: Batch,
    alpha: float,
) -> Iterator[torch.Tensor]:
    """Yield both parts of the loss; the second is computed after the first one's graph was freed."""
    yield npo_loss(task.loss(student, forget_batch), start, beta).mean()
    yield alpha * task.loss(student, retain_batch).mean()
