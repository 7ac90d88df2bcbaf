# SPDX-License-Identifier: Apache-2.0
"""EU-k: exact unlearning of the last k layers, by retraining them on the retain set.

Rule::

    θ_last ← argmin over some epochs, from a random start, of  E_{z ∈ R} ℓ(θ_first, θ_last; z)

R: the retain set; ℓ: the task's loss; θ_last: the weights of the last k layers (``Task.layers``); θ_first:
all other weights, which do not change. The forget set is not used. θ_last keeps no information about it;
θ_first does.

Reference: Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, *Towards Adversarial Evaluations for Inexact Machine
Unlearning*, 2022.

Differences:
    - The task defines the layers: blocks of a YOLO, layers with weights of any other module.
    - Batch norm in the last k layers is re-initialised as well. In exception to the rule that statistics do
      not change, it uses batch statistics and updates the running ones, on retained data only (not for a
      batch of one sample). Batch norm in a frozen layer does not change.
    - A pass is charged in full, although its backward half ends at the last k layers.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.last_layers import last_layers, train_last
from expunge.tasks.protocol import Samples, Task


@torch.no_grad()
def _reinitialise(layer: nn.Module, task: Task, generator: torch.Generator) -> None:
    """Re-initialise a layer except its frozen parts and their statistics."""
    kept: dict[nn.Parameter | torch.Tensor, torch.Tensor] = {}
    for module in layer.modules():
        parameters = list(module.parameters(recurse=False))
        kept.update({p: p.clone() for p in parameters if not p.requires_grad})
        if parameters and not any(p.requires_grad for p in parameters):
            kept.update({b: b.clone() for b in module.buffers(recurse=False)})
    task.reset(layer, generator)
    for tensor, value in kept.items():
        tensor.copy_(value)


@register(
    "eu_k",
    goals=("sample", "subject", "class"),
    cost=10,
    paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru: Towards Adversarial Evaluations for Inexact Machine "
    "Unlearning. 2022",
)
def eu_k(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    k: int = 2,
    lr: float = 1e-3,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model with its last layers trained from scratch.

    Args:
        k: Number of layers to retrain, counted from the output.
        lr: Learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples per batch.

    Raises:
        InputError: If there are fewer than k layers, or they have no trainable parameter.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    layers = last_layers(student, task, k)
    for layer in layers:
        _reinitialise(layer, task, generator)
    train_last(student, layers, retain, loop, lr=lr, epochs=epochs, batch=batch, statistics=True)
    return student
