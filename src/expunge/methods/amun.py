# SPDX-License-Identifier: Apache-2.0
"""AMUN: learn the model's own mistakes next to the forget set, so that its confidence there falls.

Rule::

    z̃ = (x̃, ỹ) for each (x, y) ∈ F:  x̃ the nearest input that PGD-50 finds with f₀(x̃) ≠ y, ỹ = f₀(x̃)
    θ ← argmin over a few epochs of  Σ ℓ(θ; z)  over  R ∪ {z̃}  (or R ∪ F ∪ {z̃}, or either without R)

F, R: forget and retain set; f₀: the original model; ℓ: the loss; PGD-50: 50 steps of projected gradient
ascent within an ℓ2 ball of radius ε with steps of ε/10, where ε is doubled until the model is mistaken. x̃ is
the first mistaken point on the way.

Reference: Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, *Not All Wrong is Bad: Using Adversarial Examples
for Unlearning*, ICML 2025. Composition of the data and the attack are checked against its authors' code.

Differences: the paper's main setting also trains on F with its true labels (``use_forget``), and relies on
the contradiction; on small memorised sets that was seen to keep the memory alive, so it is off here, as in
the authors' variant with adversarial examples only. ε is in units of the width of the input range (of 1 where
inputs are unbounded). Each ball is searched from the sample itself, and left once the points no longer move.
After ``doublings`` the search is given up, and the sample is left out. A batch holds either retained samples
or counterparts. The search takes at most half of the budget. What "mistaken" and "own prediction" mean for
boxes is the task's decision. The paper tunes the learning rate for each forget set; here it is AdamW's.
Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import FORWARD, Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import LeastWork, Sizes, first
from expunge.methods.perturbation import Made, across, admissible, breadth, input_gradient, replay
from expunge.tasks.protocol import Batch, Samples, Task

STEPS_IN_RADIUS = 10
STUCK = 0.1  # of a step: further steps in this ball lead nowhere
SEARCH_SHARE = 0.5


@torch.no_grad()
def attack(
    task: Task, model: nn.Module, batch: Batch, epsilon: float, steps: int, budget: Budget
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search an ℓ2 ball around each sample for inputs at which the model is mistaken.

    Args:
        task: Knows what mistaken is.
        model: Is not changed.
        batch: B samples.
        epsilon: Radius.
        steps: Of projected gradient ascent, at most.
        budget: Is charged for each sample and step; the search ends where it does.

    Returns:
        The inputs reached (B, …), and where the model is mistaken (B,), bool.
    """
    start, size = task.inputs(batch).detach(), task.size(batch)
    point = start.clone()
    found = task.mistaken(model, batch)
    for _ in range(steps):
        if bool(found.all()) or not budget.covers(size, 1 + FORWARD):
            break
        budget.charge(size, 1 + FORWARD)
        gradient = input_gradient(task, model, batch, point)
        step = epsilon / STEPS_IN_RADIUS
        shift = point + gradient * across(step / _length(gradient), gradient) - start
        shift = shift * across((epsilon / _length(shift)).clamp(max=1), shift)
        moved = admissible(task, batch, start + shift)
        stuck = _length(moved - point) < STUCK * step
        point = torch.where(across(found, point), point, moved)
        found = found | task.mistaken(model, task.with_inputs(batch, point))
        if bool((found | stuck).all()):
            break
    return point, found


def _length(vectors: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    return norms.clamp(min=torch.finfo(vectors.dtype).tiny)


def counterparts(
    model: nn.Module,
    forget: Samples,
    loop: Loop,
    *,
    epsilon: float,
    steps: int,
    doublings: int,
    batch: int,
) -> tuple[list[Made], bool]:
    """Return the adversarial counterparts of the forget set, as batches with the model's own targets.

    The second part of the answer is whether the budget cut the search short.

    Args:
        model: The original.
        forget: F.
        loop: Is charged.
        epsilon: First radius, in units of the width of the input range.
        steps: Of PGD in each radius.
        doublings: Of the radius, at most.
        batch: Samples in a batch.
    """
    task = loop.task
    purse = loop.budget.part(SEARCH_SHARE)
    order = torch.randperm(len(forget), generator=loop.generator).tolist()
    made, cut = [], False
    for doubling in range(doublings + 1):
        left: list[int] = []
        for place in range(0, len(order), batch):
            indices = order[place : place + batch]
            if not purse.covers(len(indices), 1 + 3 * FORWARD):
                cut = True
                break
            purse.charge(len(indices), 2 * FORWARD)  # whether mistaken at the start; what is seen at the end
            source = task.collate([forget[i] for i in indices])
            radius = epsilon * breadth(task, source) * 2**doubling
            point, found = attack(task, model, source, radius, steps, purse)
            if bool(found.any()):
                twin = task.own_targets(model, task.with_inputs(source, point))
                made.append(Made(twin, source, found))
            left += [i for i, hit in zip(indices, found.tolist(), strict=True) if not hit]
            loop.progress.images(len(indices) - int((~found).sum()))
        order = left
    return made, cut


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the search of one batch, and of everything in every radius, with a batch to learn from."""
    batch = first(sizes.forget, values)
    each = 2 * FORWARD + values["steps"] * (1 + FORWARD)
    everything = (values["doublings"] + 1) * sizes.forget * each / SEARCH_SHARE
    learning = max((2 if values["use_forget"] else 1) * batch, first(sizes.retain, values))
    return LeastWork(batch * (1 + 3 * FORWARD) / SEARCH_SHARE, everything + learning)


@register(
    "amun",
    goals=("sample", "subject"),
    cost=20,
    paper="Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran: Not All Wrong is Bad. ICML 2025",
    least=_least,
)
def amun(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    epsilon: float = 0.04,
    steps: int = 50,
    doublings: int = 10,
    use_retain: bool = True,
    use_forget: bool = False,
    lr: float = 3e-4,
    epochs: int = 10,
    batch: int = 16,
) -> nn.Module:
    """Return the model, fine-tuned on its mistakes.

    Args:
        epsilon: First radius of the search, in units of the width of the input range.
        steps: Of PGD in each radius.
        doublings: Of the radius, at most.
        use_retain: Whether the retain set is used.
        use_forget: Whether the forget set, with its own labels, is used beside its counterparts.
        lr: Learning rate of AdamW.
        epochs: Passes over the data.
        batch: Samples in a batch.

    Raises:
        InputError: If the model is mistaken nowhere within reach of the forget set.
        BudgetSpent: If the budget does not suffice to find out.
    """
    student, original = task.clone(model), task.clone(model)
    loop = Loop(task, generator, budget, progress)
    made, cut = counterparts(
        original, forget, loop, epsilon=epsilon, steps=steps, doublings=doublings, batch=batch
    )
    if not made and cut:
        raise BudgetSpent(
            "The budget does not suffice for this method.",
            "Half of it was spent in search of adversarial examples, and none was found.",
            "Raise the budget, or choose a cheaper method.",
        )
    if not made:
        raise InputError(
            "No adversarial example was found for any sample of the forget set.",
            f"The search went up to {epsilon * 2**doublings:g} times the width of the input range.",
            "Raise the doublings, or choose another method.",
        )
    rest = -(-len(retain) // batch) if use_retain else 0
    kinds = torch.tensor([0] * rest + [1] * len(made))
    optimizer = loop.optimizer(student, lr)
    for _ in range(epochs):
        retained = loop.batches(retain, batch)
        twins = replay(loop, made, share=2.0 if use_forget else 1.0)
        for kind in kinds[torch.randperm(len(kinds), generator=generator)].tolist():
            if kind == 0 and (drawn := next(retained, None)) is not None:
                loop.step(optimizer, task.loss(student, drawn[1]).mean())
            elif kind == 1 and (pair := next(twins, None)) is not None:
                parts = (pair.batch, pair.source) if use_forget else (pair.batch,)
                loop.step(optimizer, (pair.mean(task.loss(student, p)) / len(parts) for p in parts))
        loop.round(student)
        if loop.exhausted:
            break
    return student
