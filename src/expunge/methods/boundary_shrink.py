# SPDX-License-Identifier: Apache-2.0
"""Boundary shrink: give each sample of the forgotten class the label of the nearest other class.

Rule::

    x′ = x + b · sign ∇_x ℓ(f₀; (x, y)),   y′ = f₀(x′)
    θ ← argmin over a few epochs of  E_{(x, y) ∈ F} ℓ(θ; (x, y′))

F: the forget set; f₀: the original model; ℓ: the loss; b: the length of the single step (FGSM) that crosses
the nearest boundary. The neighbouring classes take over the decision region of the class. The retain set is
not used.

Reference: Chen, Gao, Zhang, Xie, Rong, Song, *Boundary Unlearning: Rapid Forgetting of Deep Networks via
Shifting the Decision Boundary*, CVPR 2023.

Differences: b is in units of the width of the input range (of 1 where inputs are unbounded). If one step of
length b does not change the prediction, the published code keeps the true label and so trains on data to be
forgotten; here b is doubled up to ``doublings`` times, and a sample whose prediction never changes is left
out. The paper's learning rate (10⁻⁵, SGD) does not apply to AdamW. Otherwise see
:mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import FORWARD, Budget, Loop, Progress, register
from expunge.methods.least import LeastWork, SetSizes, first_batch
from expunge.methods.perturbation import (
    GeneratedBatch,
    clamp_to_range,
    input_gradient,
    input_width,
    replay_batches,
)
from expunge.tasks.protocol import Samples, Task


@torch.no_grad()
def neighbours(
    model: nn.Module, forget: Samples, loop: Loop, *, bound: float, doublings: int, batch: int
) -> list[GeneratedBatch]:
    """Return the forget set with the labels of the nearest other classes.

    Args:
        model: The original model.
        forget: F.
        loop: Charged for the search.
        bound: b.
        doublings: Maximum number of doublings of b.
        batch: Samples per batch.
    """
    task = loop.task
    relabelled_batches: list[GeneratedBatch] = []
    order = torch.randperm(len(forget), generator=loop.generator).tolist()
    for doubling in range(doublings + 1):
        unsolved = []
        for place in range(0, len(order), batch):
            indices = order[place : place + batch]
            if not loop.budget.covers(len(indices), 1 + 2 * FORWARD):
                loop.exhausted = True
                return relabelled_batches
            loop.budget.charge(len(indices), 1 + 2 * FORWARD)
            source = task.collate([forget[i] for i in indices])
            start = task.inputs(source)
            length = bound * input_width(task, source) * 2**doubling
            moved = start + length * input_gradient(task, model, source, start).sign()
            perturbed = task.with_inputs(source, clamp_to_range(task, source, moved))
            wrong = task.misclassified(model, perturbed)
            if bool(wrong.any()):
                relabelled = task.with_inputs(task.own_targets(model, perturbed), start)
                relabelled_batches.append(GeneratedBatch(relabelled, source, wrong))
            unsolved += [i for i, is_wrong in zip(indices, wrong.tolist(), strict=True) if not is_wrong]
        order = unsolved
    return relabelled_batches


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of a search for one batch, and of a full search with a batch of training."""
    batch, per_sample = first_batch(sizes.forget, values), 1 + 2 * FORWARD
    full_search = (values["doublings"] + 1) * sizes.forget * per_sample
    return LeastWork(batch * per_sample + 1, full_search + batch)


@register(
    "boundary_shrink",
    goals=("class",),
    cost=1.2,
    paper="Chen et al.: Boundary Unlearning. CVPR 2023",
    least=_least,
)
def boundary_shrink(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    bound: float = 0.1,
    doublings: int = 4,
    lr: float = 3e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model after some epochs on the relabelled forget set.

    Args:
        bound: b, in units of the width of the input range.
        doublings: Maximum number of doublings of b.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples per batch.

    Raises:
        BudgetSpent: If the budget ends before any sample crosses a boundary.
        InputError: If no sample of the forget set crosses a boundary.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    relabelled_batches = neighbours(
        task.clone(model), forget, loop, bound=bound, doublings=doublings, batch=batch
    )
    if not relabelled_batches and loop.exhausted:
        budget.charge(len(forget), 1 + 2 * FORWARD)
    if not relabelled_batches:
        raise InputError(
            "No sample of the forget set crosses a boundary, so that there is no other class to give it.",
            f"The longest step was {bound * 2**doublings:g} times the width of the input range.",
            "Raise the bound, or choose another method.",
        )
    optimizer = loop.optimizer(student, lr)
    for _ in range(epochs):
        for part in replay_batches(loop, relabelled_batches):
            loop.step(optimizer, part.mean(task.loss(student, part.batch)))
        loop.round(student)
        if loop.exhausted:
            break
    return student
