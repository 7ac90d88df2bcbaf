# SPDX-License-Identifier: Apache-2.0
"""MSG, masked small gradients: initialise anew the weights on which retain and forget set agree, then repair.

Rule::

    g = ∇ ( E_{z ∈ R′} ℓ(θ; z) − E_{z ∈ F} ℓ(θ; z) )
    in each layer: θᵢ ← a fresh draw, for the share ρ of weights with the smallest |gᵢ|
    fine-tune on R, in which those weights move freely and the layer's others at the rate s

R: the retain set; R′: |F| random samples of it; F: the forget set; ℓ: the loss; ρ = 0.3; s = 0.1.

Reference: Cadet et al., *Deep Unlearn: Benchmarking Machine Unlearning*, 2024, who describe and measure it
under this name; a top entry of the NeurIPS 2023 challenge on machine unlearning. Checked against the code of
that benchmark: share, He initialisation (fan-out), rate, epochs, and a learning rate that rises linearly to
the middle and falls again.

Differences: linear layers are treated as convolutions are (the entry knew convolutions only). The initial
variance follows the layer's outputs or inputs, whichever are more (in a ResNet's convolutions the outputs, as
in the entry): an output layer of few channels would get enormous weights otherwise. AdamW does not feel the
scale of a gradient, so the update is scaled by s and not the gradient, which for SGD is the same. Other than
elsewhere in this package, and as in the paper, batch norm works in training mode during the repair, on
retained data alone: renewed weights do not fit the old statistics. Otherwise see
:mod:`expunge.methods.base`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from expunge.errors import InputError
from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.least import LeastWork, Sizes, exactly
from expunge.tasks.protocol import Samples, Task

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def smallest(gradient: torch.Tensor, share: float) -> torch.Tensor:
    """Return where the ``share`` of entries with the smallest magnitude is (bool, shaped as the gradient)."""
    count = round(share * gradient.numel())
    chosen = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
    chosen[gradient.abs().flatten().topk(count, largest=False).indices] = True
    return chosen.view_as(gradient)


def agreement(model: nn.Module, forget: Samples, retain: Samples, loop: Loop, batch: int) -> None:
    """Leave g, the gradient of the retain loss less that of the forget loss, in the model's parameters.

    Raises:
        BudgetSpent: If the budget does not suffice for it.
    """
    order = torch.randperm(len(retain), generator=loop.generator)[: len(forget)].tolist()
    some: Samples = Subset(retain, order)  # type: ignore[arg-type]
    for data, sign in ((some, 1.0), (forget, -1.0)):
        if not loop.budget.covers(len(data)):
            loop.budget.charge(len(data))
        for _, samples in loop.batches(data, batch):
            loss = loop.task.loss(model, samples).sum() * (sign / len(data))
            loss.backward()  # type: ignore[no-untyped-call]


@torch.no_grad()
def renew(
    model: nn.Module, task: Task, share: float, generator: torch.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Initialise the chosen weights anew; return each weight with the mask of what was chosen.

    Raises:
        InputError: If there is none.
    """
    learning = {id(p) for p in task.parameters(model).values()}
    renewed = []
    for layer in model.modules():
        if not isinstance(layer, LAYERS) or id(layer.weight) not in learning or layer.weight.grad is None:
            continue
        chosen = smallest(layer.weight.grad, share)
        outputs, inputs = layer.weight.shape[:2]  # inputs: of a group
        fan = max(outputs // getattr(layer, "groups", 1), inputs) * layer.weight[0, 0].numel()
        fresh = torch.randn(layer.weight.shape, generator=generator, dtype=layer.weight.dtype)
        fresh *= math.sqrt(2 / fan)
        layer.weight.copy_(torch.where(chosen, fresh.to(layer.weight.device), layer.weight))
        renewed.append((layer.weight, chosen))
    if not renewed:
        raise InputError(
            "No weight of this model can be initialised anew in part.",
            "No linear or convolutional layer has a weight of its own that may change; pruned and "
            "parametrised layers compute theirs.",
            "Choose another method.",
        )
    return renewed


def rate(epoch: int, epochs: int) -> float:
    """Return the share of the learning rate in an epoch (from 0): up to the middle, and down again."""
    rise, step = (epochs + 1) // 2, epoch + 1
    return step / rise if step <= rise else (epochs + 1 - step) / (epochs + 1 - rise)


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the gradients on both sides, and an epoch of repair."""
    return exactly(min(sizes.forget, sizes.retain) + sizes.forget + sizes.retain)


@register(
    "msg",
    goals=("sample", "subject"),
    cost=5.2,
    paper="Cadet et al.: Deep Unlearn. 2024",
    least=_least,
)
def msg(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    share: float = 0.3,
    slow: float = 0.1,
    lr: float = 3e-3,
    epochs: int = 5,
    batch: int = 16,
) -> nn.Module:
    """Return the model after renewal and repair.

    Args:
        share: ρ, of each layer's weights that are initialised anew.
        slow: s, rate of the weights that were kept.
        lr: Learning rate of AdamW at its peak.
        epochs: Passes over the retain set.
        batch: Samples in a batch.

    Raises:
        BudgetSpent: If the budget does not suffice for g, or for a first epoch of repair.
        InputError: If no layer has weights that can be initialised anew.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    agreement(student, forget, retain, loop, batch)
    if not budget.covers(len(retain)):
        budget.charge(len(retain))
    renewed = renew(student, task, share, generator)
    weights = [weight.detach() for weight, _ in renewed]  # the same memory, without a gradient
    before = [torch.empty_like(weight) for weight in weights]
    rates = [torch.where(chosen, 1.0, slow).to(weight.dtype) for weight, chosen in renewed]
    norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    optimizer = loop.optimizer(student, lr)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(epoch, epochs)
        for _, samples in loop.batches(retain, batch):
            for norm in norms:
                norm.train(task.size(samples) > 1)
            torch._foreach_copy_(before, weights)
            loop.step(optimizer, task.loss(student, samples).mean())
            torch._foreach_copy_(weights, torch._foreach_lerp(before, weights, rates))
        task.ready(student)
        loop.round(student)
        if loop.exhausted:
            break
    return student
