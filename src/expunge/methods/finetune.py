# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on the retain set, which lets the model forget data that is no longer used.

Rule::

    θ ← argmin over a few epochs of  E_{z ∈ R} ℓ(θ; z)

R: the retain set; ℓ: the task's loss. The forget set is not used.

Reference: Golatkar, Achille, Soatto, *Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep
Networks*, CVPR 2020 (the baseline "Finetune"). Warnecke et al., NDSS 2023, and Kurmanji et al., NeurIPS 2023,
use it in the same way.

Differences: see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.tasks.protocol import Samples, Task


@register(
    "finetune",
    goals=("sample", "subject", "class"),
    cost=5,
    paper="Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net. CVPR 2020",
)
def finetune(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    lr: float = 1e-4,
    epochs: int = 5,
    batch: int = 16,
) -> nn.Module:
    """Return the model after some epochs on the retain set.

    Args:
        lr: Learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples per batch.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    optimizer = loop.optimizer(student, lr)
    for _ in range(epochs):
        for _, samples in loop.batches(retain, batch):
            loop.step(optimizer, task.loss(student, samples).mean())
        loop.round(student)
        if loop.exhausted:
            break
    return student
