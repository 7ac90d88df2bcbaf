# SPDX-License-Identifier: Apache-2.0
"""CF-k: catastrophic forgetting of the last k layers, by fine-tuning them on the retain set.

Rule::

    θ_last ← argmin over a few epochs, from θ_last, of  E_{z ∈ R} ℓ(θ_first, θ_last; z)

R: the retain set; ℓ: the task's loss; θ_last: the weights of the last k layers (``Task.layers``); θ_first:
all other weights, which do not change. The forget set is not used.

Reference: Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, *Towards Adversarial Evaluations for Inexact Machine
Unlearning*, 2022.

Differences:
    - The task defines the layers: blocks of a YOLO, layers with weights of any other module.
    - A pass is charged in full, although its backward half ends at the last k layers.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.last_layers import last_layers, train_last
from expunge.tasks.protocol import Samples, Task


@register(
    "cf_k",
    goals=("sample", "subject", "class"),
    cost=5,
    paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru: Towards Adversarial Evaluations for Inexact Machine "
    "Unlearning. 2022",
)
def cf_k(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    k: int = 2,
    lr: float = 1e-4,
    epochs: int = 5,
    batch: int = 16,
) -> nn.Module:
    """Return the model with fine-tuned last layers.

    Args:
        k: Number of layers to train, counted from the output.
        lr: Learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples per batch.

    Raises:
        InputError: If there are fewer than k layers, or they have no trainable parameter.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    layers = last_layers(student, task, k)
    train_last(student, layers, retain, loop, lr=lr, epochs=epochs, batch=batch, statistics=False)
    return student
