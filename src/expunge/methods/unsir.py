# SPDX-License-Identifier: Apache-2.0
"""UNSIR: impair the model with error-maximising noise for the forgotten class, then repair it.

Rule::

    N ← argmin E[ −ℓ(θ₀; (N, c)) + λ‖N‖² ]          noise that maximises the error for class c
    impair:  θ ← θ − η₁ ∇ ( ℓ(θ; (N, c)) + ℓ(θ; z) ),  z ∈ R′,  one epoch
    repair:  θ ← θ − η₂ ∇ ℓ(θ; z),                    z ∈ R′,  one epoch

c: the classes of forget samples; θ₀: the original weights; ℓ: the loss; R′: a random part of the retain set;
λ = 0.1; η₁ > η₂: learning rates. Of the forget set only the targets are used, not the pictures.

Reference: Tarun, Chundawat, Mandal, Kankanhalli, *Fast Yet Effective Machine Unlearning*, IEEE TNNLS 2023
(arXiv 2021).

Differences: the noise is centred in the input range, in units of half its width, and clamped to it (the
paper leaves it unbounded). Each impair step uses as many noise samples as retained ones. The paper's learning
rates (0.02 and 0.01, Adam) are for a small network trained from scratch; pretrained networks need lower ones.
Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.least import LeastWork, SetSizes, exact_work, first_batch
from expunge.methods.perturbation import clamp_to_range
from expunge.tasks.protocol import Batch, Samples, Task

NOISE_LR = 0.1


def error_maximising_noise(
    task: Task,
    model: nn.Module,
    batch: Batch,
    *,
    steps: int,
    penalty: float,
    generator: torch.Generator,
) -> Batch:
    """Return the batch with inputs replaced by noise that maximises the loss of its targets.

    Args:
        task: The task.
        model: The model; it is not changed.
        batch: Samples whose targets are used; their inputs determine shape and range only.
        steps: Number of steps of Adam.
        penalty: λ, the weight of the noise's squared norm.
        generator: Draws the initial noise.
    """
    inputs = task.inputs(batch)
    low, high = task.input_range(batch) or (-1.0, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2
    noise = torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype).to(inputs.device)
    noise.requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=NOISE_LR)
    for _ in range(steps):
        noisy = task.with_inputs(batch, clamp_to_range(task, batch, middle + half * noise))
        size = noise.square().flatten(1).sum(1).mean()
        loss = penalty * size - task.loss(model, noisy).mean()
        (noise.grad,) = torch.autograd.grad(loss, noise)
        optimizer.step()
    return task.with_inputs(batch, clamp_to_range(task, batch, middle + half * noise.detach()))


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of the whole method, since an impaired model must be repaired."""
    count = min(max(round(values["part"] * sizes.retain), 1), sizes.retain)
    noisy, batches = first_batch(sizes.forget, values), -(-count // values["batch"])
    return exact_work(values["noises"] * noisy * values["noise_steps"] + 2 * count + batches * noisy)


@register(
    "unsir",
    goals=("class",),
    cost=2,
    paper="Tarun et al.: Fast Yet Effective Machine Unlearning. IEEE TNNLS 2023",
    strength=("impair_lr", 3.0),
    least=_least,
)
def unsir(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    noises: int = 1,
    noise_steps: int = 40,
    penalty: float = 0.1,
    part: float = 0.5,
    impair_lr: float = 1e-2,
    repair_lr: float = 2.5e-3,
    batch: int = 16,
) -> nn.Module:
    """Return the model after impairing and repairing.

    Args:
        noises: Number of noise batches.
        noise_steps: Optimisation steps per noise batch.
        penalty: λ.
        part: Size of R′, as a share of the retain set.
        impair_lr: η₁, learning rate of AdamW.
        repair_lr: η₂, learning rate of AdamW.
        batch: Samples per batch.

    Raises:
        BudgetSpent: If the budget does not suffice for the noise and both epochs; an impaired model without
            repair is useless.
    """
    student, original = task.clone(model), task.clone(model)
    loop = Loop(task, generator, budget, progress)
    count = min(max(round(part * len(retain)), 1), len(retain))
    retain_part: Samples = Subset(retain, torch.randperm(len(retain), generator=generator)[:count].tolist())  # type: ignore[arg-type]
    noisy_count = min(batch, len(forget))
    needed = noises * noisy_count * noise_steps + 2 * count + -(-count // batch) * noisy_count
    if not budget.covers(needed):
        budget.charge(needed)
    noise_batches = []
    for _ in range(noises):
        drawn = torch.randperm(len(forget), generator=generator)[:batch].tolist()
        budget.charge(len(drawn) * noise_steps)
        targets = task.collate([forget[i] for i in drawn])
        noise_batches.append(
            error_maximising_noise(
                task, original, targets, steps=noise_steps, penalty=penalty, generator=generator
            )
        )
    optimizer = loop.optimizer(student, impair_lr)
    for (_, samples), noisy in zip(loop.batches(retain_part, batch), cycle(noise_batches), strict=False):
        budget.charge(task.size(noisy))
        loop.step(optimizer, (task.loss(student, part).mean() / 2 for part in (noisy, samples)))
    optimizer = loop.optimizer(student, repair_lr)
    for _, samples in loop.batches(retain_part, batch):
        loop.step(optimizer, task.loss(student, samples).mean())
    loop.round(student)
    return student
