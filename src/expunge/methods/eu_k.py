# SPDX-License-Identifier: Apache-2.0
"""EU-k: exact unlearning of the last k layers, by training them anew on the retain set.

Rule::

    θ_last ← argmin over some epochs, from a random start, of  E_{z ∈ R} ℓ(θ_first, θ_last; z)

R: the retain set; ℓ: the task's loss; θ_last: the weights of the last k layers (``Task.layers``); θ_first:
all others, which stay as they are. The forget set is not looked at. Nothing that θ_last knew survives; what
θ_first knows, does.

Reference: Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, *Towards Adversarial Evaluations for Inexact Machine
Unlearning*, 2022.

Differences:
    - A layer is what the task calls one: a block of a YOLO, a layer with weights of any other module.
    - Batch norm within the last k layers starts anew as well, and is the exception to the rule that
      statistics stay as they are: it uses those of the batch and updates the running ones, on retained data
      alone (not in a batch of one sample). Batch norm in a layer that is frozen stays as it is.
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
def _restart(layer: nn.Module, task: Task, generator: torch.Generator) -> None:
    """Initialise a layer anew but for what is frozen in it, statistics of frozen parts included."""
    kept: dict[nn.Parameter | torch.Tensor, torch.Tensor] = {}
    for module in layer.modules():
        own = list(module.parameters(recurse=False))
        kept.update({p: p.clone() for p in own if not p.requires_grad})
        if own and not any(p.requires_grad for p in own):
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
        k: How many layers are trained anew, counted from the output.
        lr: Learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples in a batch.

    Raises:
        InputError: If there are no k layers, or nothing in them may be changed.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    chosen = last_layers(student, task, k)
    for layer in chosen:
        _restart(layer, task, generator)
    train_last(student, chosen, retain, loop, lr=lr, epochs=epochs, batch=batch, statistics=True)
    return student
