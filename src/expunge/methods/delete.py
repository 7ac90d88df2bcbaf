# SPDX-License-Identifier: Apache-2.0
"""DELETE: distil the model's own outputs for the forget set, with the forgotten class removed.

Rule::

    θ ← argmin over a few epochs of  E_{z ∈ F}  KL( softmax(mask(f₀(z))) ‖ softmax(f_θ(z)) )

F: the forget set; f₀: the original model's logits; mask: sets the logit of z's true class to −∞. The
probability of the forgotten class goes to the other classes in the model's own proportions, which preserves
the rest of its knowledge. The retain set is not used.

Reference: Zhou et al., *Decoupled Distillation to Erase: A General Unlearning Method for Any Class-centric
Tasks*, CVPR 2025.

Differences: AdamW with its own learning rate (the paper tunes SGD for each data set); −∞ is a large negative
number. If a task has several outputs (boxes), only class logits are masked, and the other outputs are
distilled unchanged. Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from expunge.methods.base import Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import FORWARD, LeastWork, SetSizes, exact_work, first_batch
from expunge.methods.teacher import Teacher
from expunge.tasks.protocol import Samples, Task


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of a batch of the forget set with teacher outputs."""
    return exact_work((1 + FORWARD) * first_batch(sizes.forget, values))


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
        batch: Samples per batch.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    teacher = Teacher(task.clone(model), forget, loop, epochs)
    optimizer = loop.optimizer(student, lr)
    # The teacher's forward passes are charged as well, and may exceed the budget.
    with suppress(BudgetSpent):
        for _ in range(epochs):
            for indices, samples in loop.batches(forget, batch):
                target = task.suppress(teacher.outputs(indices, samples), samples)
                loop.step(optimizer, task.divergence(task.outputs(student, samples), target).mean())
            loop.round(student)
            if loop.exhausted:
                break
    return student
