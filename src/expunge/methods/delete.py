# SPDX-License-Identifier: Apache-2.0
"""DELETE: distil the model's own outputs for the forget set, with the forgotten class taken out.

Rule::

    θ ← argmin over a few epochs of  E_{z ∈ F}  KL( softmax(mask(f₀(z))) ‖ softmax(f_θ(z)) )

F: the forget set; f₀: the original model's logits; mask: puts the logit of z's own class at −∞. The mass of
the forgotten class goes to the others in the proportions that the model itself gave them, which is what keeps
the rest of its knowledge in place. The retain set is not looked at.

Reference: Zhou et al., *Decoupled Distillation to Erase: A General Unlearning Method for Any Class-centric
Tasks*, CVPR 2025.

Differences: AdamW with a learning rate of its own (the paper tunes SGD for each data set); −∞ is a large
number. Where a task has several outputs (boxes), only class logits are masked and the rest is distilled as it
is. Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from expunge.methods.base import Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import FORWARD, LeastWork, Sizes, exactly, first
from expunge.methods.teacher import Teacher
from expunge.tasks.protocol import Samples, Task


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return a batch of the forget set with the teacher's outputs on it."""
    return exactly((1 + FORWARD) * first(sizes.forget, values))


@register(
    "delete",
    goals=("class",),
    cost=1,
    paper="Zhou et al.: Decoupled Distillation to Erase. CVPR 2025",
    least=_least,
)
def delete(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    lr: float = 3e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model after some epochs on the forget set.

    Args:
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples in a batch.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    teacher = Teacher(task.clone(model), forget, loop, epochs)
    optimizer = loop.optimizer(student, lr)
    # The teacher's forward passes are charged when they are made: they too may end the budget.
    with suppress(BudgetSpent):
        for _ in range(epochs):
            for indices, samples in loop.batches(forget, batch):
                target = task.suppress(teacher.outputs(indices, samples), samples)
                loop.step(optimizer, task.divergence(task.outputs(student, samples), target).mean())
            loop.round(student)
            if loop.exhausted:
                break
    return student
