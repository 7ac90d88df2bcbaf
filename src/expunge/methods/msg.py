# SPDX-License-Identifier: Apache-2.0
"""MSG, masked small gradients: re-initialise weights on which retain and forget set agree, then fine-tune.

Rule::

    g = ∇ ( E_{z ∈ R′} ℓ(θ; z) − E_{z ∈ F} ℓ(θ; z) )
    in each layer: θᵢ ← a fresh draw, for the share ρ of weights with the smallest |gᵢ|
    fine-tune on R, in which those weights move freely and the layer's others at the rate s

R: the retain set; R′: |F| random samples of it; F: the forget set; ℓ: the loss; ρ = 0.3; s = 0.1.

Reference: Cadet et al., *Deep Unlearn: Benchmarking Machine Unlearning*, 2024, who describe and measure it
under this name; a top entry of the NeurIPS 2023 challenge on machine unlearning. Checked against the code of
that benchmark: share, He initialisation (fan-out), rate, epochs, and a learning rate that rises linearly to
the middle and then falls.

Differences: linear layers are treated like convolutions (the entry handled convolutions only). The initial
variance depends on the larger of the layer's numbers of outputs and inputs, since an output layer of few
channels would otherwise get very large weights; in a ResNet's convolutions the outputs are more, as in the
entry. s scales the update instead of the gradient, because AdamW is invariant to the gradient's scale; for
SGD the two are equal. In contrast to the other methods of this package, and as in the paper, batch norm is in
training mode during fine-tuning, on retained data only: the re-initialised weights do not fit the old
statistics. Otherwise see :mod:`expunge.methods.base`.
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
from expunge.methods.least import LeastWork, SetSizes, exact_work
from expunge.tasks.protocol import Samples, Task

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def smallest_mask(gradient: torch.Tensor, share: float) -> torch.Tensor:
    """Return a mask (bool, shape of the gradient) of the ``share`` of entries with the smallest magnitude."""
    count = round(share * gradient.numel())
    mask = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
    mask[gradient.abs().flatten().topk(count, largest=False).indices] = True
    return mask.view_as(gradient)


def accumulate_difference(model: nn.Module, forget: Samples, retain: Samples, loop: Loop, batch: int) -> None:
    """Accumulate g, the gradient of the retain loss minus the forget loss, in the model's parameters.

    Raises:
        BudgetSpent: If the budget does not suffice.
    """
    order = torch.randperm(len(retain), generator=loop.generator)[: len(forget)].tolist()
    sample: Samples = Subset(retain, order)  # type: ignore[arg-type]
    for data, sign in ((sample, 1.0), (forget, -1.0)):
        if not loop.budget.covers(len(data)):
            loop.budget.charge(len(data))
        for _, samples in loop.batches(data, batch):
            loss = loop.task.loss(model, samples).sum() * (sign / len(data))
            loss.backward()  # type: ignore[no-untyped-call]


@torch.no_grad()
def reinitialise(
    model: nn.Module, task: Task, share: float, generator: torch.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Re-initialise the weights with the smallest gradients, and return each weight with its mask.

    Raises:
        InputError: If no layer has weights that can be re-initialised.
    """
    trainable = {id(p) for p in task.parameters(model).values()}
    renewed = []
    for layer in model.modules():
        if not isinstance(layer, LAYERS) or id(layer.weight) not in trainable or layer.weight.grad is None:
            continue
        mask = smallest_mask(layer.weight.grad, share)
        outputs, inputs = layer.weight.shape[:2]  # inputs are counted per group
        fan = max(outputs // getattr(layer, "groups", 1), inputs) * layer.weight[0, 0].numel()
        fresh = torch.randn(layer.weight.shape, generator=generator, dtype=layer.weight.dtype)
        fresh *= math.sqrt(2 / fan)
        layer.weight.copy_(torch.where(mask, fresh.to(layer.weight.device), layer.weight))
        renewed.append((layer.weight, mask))
    if not renewed:
        raise InputError(
            "No weight of this model can be partly re-initialised.",
            "No linear or convolutional layer has a weight of its own that may change; pruned and "
            "parametrised layers compute theirs.",
            "Choose another method.",
        )
    return renewed


def rate_factor(epoch: int, epochs: int) -> float:
    """Return the factor on the learning rate in an epoch (from 0): it rises to the middle, then falls."""
    half, step = (epochs + 1) // 2, epoch + 1
    return step / half if step <= half else (epochs + 1 - step) / (epochs + 1 - half)


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of the gradients over both sets, and of one epoch of fine-tuning."""
    return exact_work(min(sizes.forget, sizes.retain) + sizes.forget + sizes.retain)


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
    """Return the model after re-initialisation and fine-tuning.

    Args:
        share: ρ, the share of each layer's weights that is re-initialised.
        slow: s, the rate of the other weights.
        lr: Peak learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples per batch.

    Raises:
        BudgetSpent: If the budget does not suffice for g and a first epoch of fine-tuning.
        InputError: If no layer has weights that can be re-initialised.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    accumulate_difference(student, forget, retain, loop, batch)
    if not budget.covers(len(retain)):
        budget.charge(len(retain))
    renewed = reinitialise(student, task, share, generator)
    weights = [weight.detach() for weight, _ in renewed]  # views without a gradient
    before = [torch.empty_like(weight) for weight in weights]
    rates = [torch.where(mask, 1.0, slow).to(weight.dtype) for weight, mask in renewed]
    norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    optimizer = loop.optimizer(student, lr)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * rate_factor(epoch, epochs)
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
