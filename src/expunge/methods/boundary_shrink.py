# SPDX-License-Identifier: Apache-2.0
"""Boundary shrink: give each sample of the forgotten class the label of the nearest other class.

Rule::

    x′ = x + b · sign ∇_x ℓ(f₀; (x, y)),   y′ = f₀(x′)
    θ ← argmin over a few epochs of  E_{(x, y) ∈ F} ℓ(θ; (x, y′))

F: the forget set; f₀: the original model; ℓ: the loss; b: the length of the single step (FGSM) that crosses
the nearest boundary. The decision space of the class is thereby handed to its neighbours. The retain set is
not looked at.

Reference: Chen, Gao, Zhang, Xie, Rong, Song, *Boundary Unlearning: Rapid Forgetting of Deep Networks via
Shifting the Decision Boundary*, CVPR 2023.

Differences: b is in units of the width of the input range (of 1 where inputs are unbounded). Where one step
of length b does not change the prediction, the published code keeps the true label and so teaches what is to
be forgotten; here b is doubled up to ``doublings`` times, and a sample that withstands all is left out. The
paper's learning rate (10⁻⁵, SGD) means nothing for AdamW. Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import FORWARD, Budget, Loop, Progress, register
from expunge.methods.least import LeastWork, Sizes, first
from expunge.methods.perturbation import Made, admissible, breadth, input_gradient, replay
from expunge.tasks.protocol import Samples, Task


@torch.no_grad()
def neighbours(
    model: nn.Module, forget: Samples, loop: Loop, *, bound: float, doublings: int, batch: int
) -> list[Made]:
    """Return the forget set with the labels of the nearest other classes.

    Args:
        model: The original.
        forget: F.
        loop: Is charged.
        bound: b.
        doublings: Of b, at most.
        batch: Samples in a batch.
    """
    task = loop.task
    made: list[Made] = []
    order = torch.randperm(len(forget), generator=loop.generator).tolist()
    for doubling in range(doublings + 1):
        left = []
        for place in range(0, len(order), batch):
            indices = order[place : place + batch]
            if not loop.budget.covers(len(indices), 1 + 2 * FORWARD):
                loop.exhausted = True
                return made
            loop.budget.charge(len(indices), 1 + 2 * FORWARD)
            source = task.collate([forget[i] for i in indices])
            start = task.inputs(source)
            length = bound * breadth(task, source) * 2**doubling
            moved = start + length * input_gradient(task, model, source, start).sign()
            across = task.with_inputs(source, admissible(task, source, moved))
            found = task.mistaken(model, across)
            if bool(found.any()):
                relabelled = task.with_inputs(task.own_targets(model, across), start)
                made.append(Made(relabelled, source, found))
            left += [i for i, hit in zip(indices, found.tolist(), strict=True) if not hit]
        order = left
    return made


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the search of a batch, and of everything in every length, with a batch to learn from."""
    batch, each = first(sizes.forget, values), 1 + 2 * FORWARD
    everything = (values["doublings"] + 1) * sizes.forget * each
    return LeastWork(batch * each + 1, everything + batch)


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
        doublings: Of b, at most.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples in a batch.

    Raises:
        BudgetSpent: If the budget ends before any sample has another class within reach.
        InputError: If no forget sample has another class within reach.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    made = neighbours(task.clone(model), forget, loop, bound=bound, doublings=doublings, batch=batch)
    if not made and loop.exhausted:
        budget.charge(len(forget), 1 + 2 * FORWARD)
    if not made:
        raise InputError(
            "No sample of the forget set crosses a boundary, so that there is no other class to give it.",
            f"The longest step was {bound * 2**doublings:g} times the width of the input range.",
            "Raise the bound, or choose another method.",
        )
    optimizer = loop.optimizer(student, lr)
    for _ in range(epochs):
        for part in replay(loop, made):
            loop.step(optimizer, part.mean(task.loss(student, part.batch)))
        loop.round(student)
        if loop.exhausted:
            break
    return student
