# SPDX-License-Identifier: Apache-2.0
"""AMUN: fine-tune on adversarial examples near the forget set, which lowers the confidence there.

Rule::

    z̃ = (x̃, ỹ) for each (x, y) ∈ F:  x̃ the nearest input that PGD-50 finds with f₀(x̃) ≠ y, ỹ = f₀(x̃)
    θ ← argmin over a few epochs of  Σ ℓ(θ; z)  over  R ∪ {z̃}  (or R ∪ F ∪ {z̃}, or either without R)

F, R: forget and retain set; f₀: the original model; ℓ: the loss; PGD-50: 50 steps of projected gradient
ascent within an ℓ2 ball of radius ε with steps of ε/10, where ε is doubled until the model misclassifies the
point. x̃ is the first misclassified point on the way.

Reference: Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, *Not All Wrong is Bad: Using Adversarial Examples
for Unlearning*, ICML 2025. Composition of the data and the attack are checked against its authors' code.

Differences: the paper's main setting also trains on F with its true labels (``use_forget``) and relies on the
contradiction. On small memorised sets this preserved the memorisation, so it is off by default, as in the
authors' variant with adversarial examples only. ε is in units of the width of the input range (of 1 where
inputs are unbounded). Each search starts at the sample itself, and stops once the points no longer move.
After ``doublings`` the search stops, and the sample is left out. A batch holds either retained samples or
adversarial examples. The search uses at most half of the budget. For boxes, the task defines what counts as
misclassified and as the model's own prediction. The paper tunes the learning rate for each forget set; here
it is a fixed rate for AdamW. Otherwise see :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import FORWARD, Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import LeastWork, SetSizes, first_batch
from expunge.methods.perturbation import (
    GeneratedBatch,
    clamp_to_range,
    expand_like,
    input_gradient,
    input_width,
    replay_batches,
)
from expunge.tasks.protocol import Batch, Samples, Task

STEPS_IN_RADIUS = 10
STUCK = 0.1  # share of a step; a point that moves less has reached the boundary of the ball
SEARCH_SHARE = 0.5


@torch.no_grad()
def attack(
    task: Task, model: nn.Module, batch: Batch, epsilon: float, steps: int, budget: Budget
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search an ℓ2 ball around each sample for misclassified inputs.

    Args:
        task: The task.
        model: The model; it is not changed.
        batch: B samples.
        epsilon: Radius of the ball.
        steps: Maximum number of steps of projected gradient ascent.
        budget: Charged for each sample and step; the search ends when it is spent.

    Returns:
        The inputs reached (B, …), and whether each is misclassified (B,), bool.
    """
    start, size = task.inputs(batch).detach(), task.size(batch)
    point = start.clone()
    wrong = task.misclassified(model, batch)
    for _ in range(steps):
        if bool(wrong.all()) or not budget.covers(size, 1 + FORWARD):
            break
        budget.charge(size, 1 + FORWARD)
        gradient = input_gradient(task, model, batch, point)
        step = epsilon / STEPS_IN_RADIUS
        shift = point + gradient * expand_like(step / _norms(gradient), gradient) - start
        shift = shift * expand_like((epsilon / _norms(shift)).clamp(max=1), shift)
        moved = clamp_to_range(task, batch, start + shift)
        stuck = _norms(moved - point) < STUCK * step
        point = torch.where(expand_like(wrong, point), point, moved)
        wrong = wrong | task.misclassified(model, task.with_inputs(batch, point))
        if bool((wrong | stuck).all()):
            break
    return point, wrong


def _norms(vectors: torch.Tensor) -> torch.Tensor:
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
) -> tuple[list[GeneratedBatch], bool]:
    """Return adversarial examples of the forget set with the model's predictions as targets.

    Args:
        model: The original model.
        forget: F.
        loop: Charged for the search.
        epsilon: First radius, in units of the width of the input range.
        steps: Number of PGD steps per radius.
        doublings: Maximum number of doublings of the radius.
        batch: Samples per batch.

    Returns:
        The batches, and whether the budget ended the search early.
    """
    task = loop.task
    search_budget = loop.budget.part(SEARCH_SHARE)
    order = torch.randperm(len(forget), generator=loop.generator).tolist()
    examples, stopped = [], False
    for doubling in range(doublings + 1):
        unsolved: list[int] = []
        for place in range(0, len(order), batch):
            indices = order[place : place + batch]
            if not search_budget.covers(len(indices), 1 + 3 * FORWARD):
                stopped = True
                break
            search_budget.charge(len(indices), 2 * FORWARD)  # predictions at the start and at the end
            source = task.collate([forget[i] for i in indices])
            radius = epsilon * input_width(task, source) * 2**doubling
            points, wrong = attack(task, model, source, radius, steps, search_budget)
            if bool(wrong.any()):
                relabelled = task.own_targets(model, task.with_inputs(source, points))
                examples.append(GeneratedBatch(relabelled, source, wrong))
            unsolved += [i for i, is_wrong in zip(indices, wrong.tolist(), strict=True) if not is_wrong]
            loop.progress.images(len(indices) - int((~wrong).sum()))
        order = unsolved
    return examples, stopped


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of a search for one batch, and of a full search with a batch of training."""
    batch = first_batch(sizes.forget, values)
    per_sample = 2 * FORWARD + values["steps"] * (1 + FORWARD)
    full_search = (values["doublings"] + 1) * sizes.forget * per_sample / SEARCH_SHARE
    training = max((2 if values["use_forget"] else 1) * batch, first_batch(sizes.retain, values))
    return LeastWork(batch * (1 + 3 * FORWARD) / SEARCH_SHARE, full_search + training)


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
    """Return the model fine-tuned on adversarial examples.

    Args:
        epsilon: First radius of the search, in units of the width of the input range.
        steps: Number of PGD steps per radius.
        doublings: Maximum number of doublings of the radius.
        use_retain: Whether the retain set is used.
        use_forget: Whether the forget set is used with its true labels as well.
        lr: Learning rate of AdamW.
        epochs: Passes over the data.
        batch: Samples per batch.

    Raises:
        InputError: If no adversarial example is found for the forget set.
        BudgetSpent: If the budget ends before one is found.
    """
    student, original = task.clone(model), task.clone(model)
    loop = Loop(task, generator, budget, progress)
    examples, stopped = counterparts(
        original, forget, loop, epsilon=epsilon, steps=steps, doublings=doublings, batch=batch
    )
    if not examples and stopped:
        raise BudgetSpent(
            "The budget does not suffice for this method.",
            "Half of it was spent in search of adversarial examples, and none was found.",
            "Raise the budget, or choose a cheaper method.",
        )
    if not examples:
        raise InputError(
            "No adversarial example was found for any sample of the forget set.",
            f"The search went up to {epsilon * 2**doublings:g} times the width of the input range.",
            "Raise the doublings, or choose another method.",
        )
    retain_batches = -(-len(retain) // batch) if use_retain else 0
    kinds = torch.tensor([0] * retain_batches + [1] * len(examples))
    optimizer = loop.optimizer(student, lr)
    for _ in range(epochs):
        retained = loop.batches(retain, batch)
        generated = replay_batches(loop, examples, share=2.0 if use_forget else 1.0)
        for kind in kinds[torch.randperm(len(kinds), generator=generator)].tolist():
            if kind == 0 and (drawn := next(retained, None)) is not None:
                loop.step(optimizer, task.loss(student, drawn[1]).mean())
            elif kind == 1 and (pair := next(generated, None)) is not None:
                parts = (pair.batch, pair.source) if use_forget else (pair.batch,)
                loop.step(optimizer, (pair.mean(task.loss(student, p)) / len(parts) for p in parts))
        loop.round(student)
        if loop.exhausted:
            break
    return student
