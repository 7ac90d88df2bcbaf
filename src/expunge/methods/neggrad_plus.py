# SPDX-License-Identifier: Apache-2.0
"""NegGrad+: descent on the retain set and ascent on the forget set in one step.

Rule::

    θ ← θ − η ∇[ β·E_{z ∈ R} ℓ(θ; z) − (1 − β)·E_{z ∈ F} ℓ(θ; z) ]

F, R: the forget and the retain set; ℓ: the task's loss; β: the weight of the retain set; η: the learning
rate.

Reference: Kurmanji, Triantafillou, Hayes, Triantafillou, *Towards Unbounded Machine Unlearning*, NeurIPS 2023
(the baseline "NegGrad+"; β is α in the authors' code, where it is tuned between 0.9 and 0.9999).

Differences:
    - An epoch is a pass over the forget set, with a new retain batch for every forget batch; the authors
      iterate over the retain set and repeat the forget set. So the work depends on the size of the request.
    - β and the learning rate are chosen for AdamW, whose steps do not shrink with the loss.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.least import both_batches
from expunge.tasks.protocol import Samples, Task


@register(
    "neggrad_plus",
    goals=("sample", "subject", "class"),
    cost=2,
    paper="Kurmanji, Triantafillou, Hayes, Triantafillou: Towards Unbounded Machine Unlearning. NeurIPS 2023",
    least=both_batches,
)
def neggrad_plus(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    beta: float = 0.95,
    lr: float = 1e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model after joint descent and ascent.

    Args:
        beta: β, the weight of the retain loss; 1 is fine-tuning, 0 is pure ascent.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples per batch, for each set.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    optimizer = loop.optimizer(student, lr)
    retain_batches = loop.endless(retain, batch)
    for _ in range(epochs):
        for (_, forget_batch), (_, retain_batch) in zip(
            loop.batches(forget, batch), retain_batches, strict=False
        ):
            weighted = ((retain_batch, beta), (forget_batch, beta - 1))
            loop.step(optimizer, (w * task.loss(student, part).mean() for part, w in weighted))
        loop.round(student)
        if loop.exhausted:
            break
    return student
