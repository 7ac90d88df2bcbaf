# SPDX-License-Identifier: Apache-2.0
"""SCRUB: a student that disobeys its teacher on the forget set, and obeys it on the retain set.

Rule, for epoch t = 1 … E::

    if t ≤ E_max:  a pass over F, step by step   θ ← θ + η ∇ E_{x ∈ F} d(x; θ)
    always:        a pass over R, step by step   θ ← θ − η ∇ [ α·E_{x ∈ R} d(x; θ) + γ·E_{z ∈ R} ℓ(θ; z) ]

    d(x; θ) = KL( p(x; θ_o) ‖ p(x; θ) )

F, R: the forget and the retain set; ℓ: the task's loss; θ_o: the teacher, which is the original model; d:
``Task.divergence``; α, γ: the weights of obedience and of the loss; E_max: the number of epochs with max
steps.

``scrub_rewind`` (SCRUB+R) keeps the weights after every epoch, and returns those at which the error on F is
closest to a reference error: that of unseen samples *of the forget set's distribution* (other pictures of
the same class or person, say; ordinary test data only where F is a random part of all data). A forget error
higher than that would give away that the samples were removed. Where epochs tie, the latest counts: it was
repaired longest.

Reference: Kurmanji, Triantafillou, Hayes, Triantafillou, *Towards Unbounded Machine Unlearning*, NeurIPS
2023.

Differences:
    - The temperature of d is 1; the authors' code has 4 (or 2).
    - At the start d is 0 and so is its gradient; without dropout or batch statistics, only rounding errors
      choose the direction of the first max step. AdamW makes it a step all the same.
    - SCRUB+R measures the reference error with the student after the last epoch, as the paper does, where
      samples are given; a number is taken as it is. The error is the share of samples that ``Task.mistaken``
      names.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.methods.base import FORWARD, Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import LeastWork, Sizes, exactly, first
from expunge.methods.teacher import Teacher
from expunge.tasks.protocol import Batch, Samples, Task

PAPER = "Kurmanji, Triantafillou, Hayes, Triantafillou: Towards Unbounded Machine Unlearning. NeurIPS 2023"


def _alternate(
    student: nn.Module,
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    loop: Loop,
    *,
    alpha: float,
    gamma: float,
    lr: float,
    epochs: int,
    max_epochs: int,
    batch: int,
    after: Callable[[], None] | None = None,
) -> None:
    """Change the student by alternating epochs of max and min steps; ``after`` is called after each."""
    task = loop.task
    original = task.clone(model)
    on_forget = Teacher(original, forget, loop, min(epochs, max_epochs))
    on_retain = Teacher(original, retain, loop, epochs)
    optimizer = loop.optimizer(student, lr)
    share = 2.0 if alpha else 1.0  # outputs and loss are two passes
    # The teacher's forward passes are charged when they are made: they too may end the budget.
    with suppress(BudgetSpent):
        for epoch in range(epochs):
            if epoch < max_epochs:
                for indices, samples in loop.batches(forget, batch):
                    teacher = on_forget.outputs(indices, samples)
                    loop.step(optimizer, -task.divergence(task.outputs(student, samples), teacher).mean())
            for indices, samples in loop.batches(retain, batch, share):
                loop.step(optimizer, _min_parts(task, student, on_retain, indices, samples, gamma, alpha))
            loop.round(student)
            if loop.exhausted:
                break
            if after is not None:
                after()


def _min_parts(
    task: Task,
    student: nn.Module,
    teacher: Teacher,
    indices: list[int],
    samples: Batch,
    gamma: float,
    alpha: float,
) -> Iterator[torch.Tensor]:
    """Yield the parts of a min step's loss, the second when the first one's graph is gone."""
    yield gamma * task.loss(student, samples).mean()
    if alpha:
        told = teacher.outputs(indices, samples)
        yield alpha * task.divergence(task.outputs(student, samples), told).mean()


@torch.no_grad()
def _error(model: nn.Module, data: Samples, loop: Loop, batch: int, share: float) -> float | None:
    """Return the share of samples with a wrong prediction; None: the budget ended."""
    wrong = 0
    for _, samples in loop.batches(data, batch, share, shuffle=False):
        wrong += int(loop.task.mistaken(model, samples).sum())
    return None if loop.exhausted else wrong / len(data)


def _least(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return a first batch with the teacher's outputs on it, and what measures unseen samples."""
    batch = first(sizes.retain, values)
    staying = batch * (2 + FORWARD if values["alpha"] else 1)
    leaving = first(sizes.forget, values) * (1 + FORWARD)
    unseen = values.get("unseen")
    aside = 0.0 if unseen is None or isinstance(unseen, int | float) else FORWARD * len(unseen)
    if not values["max_epochs"]:
        return exactly(aside + staying)
    return LeastWork(aside + min(leaving, staying), aside + leaving)


@register("scrub", goals=("sample", "subject", "class"), cost=11, paper=PAPER, least=_least)
def scrub(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    alpha: float = 0.5,
    gamma: float = 1.0,
    lr: float = 1e-4,
    epochs: int = 5,
    max_epochs: int = 3,
    batch: int = 16,
) -> nn.Module:
    """Return the student after alternating epochs of max and min steps.

    Args:
        alpha: α, the weight of obedience on the retain set.
        gamma: γ, the weight of the loss on the retain set.
        lr: Learning rate of AdamW.
        epochs: E, passes over the retain set.
        max_epochs: E_max, how many of them, from the first on, begin with a pass over the forget set.
        batch: Samples in a batch.
    """
    student = task.clone(model)
    _alternate(
        student,
        model,
        forget,
        retain,
        Loop(task, generator, budget, progress),
        alpha=alpha,
        gamma=gamma,
        lr=lr,
        epochs=epochs,
        max_epochs=max_epochs,
        batch=batch,
    )
    return student


@register(
    "scrub_rewind",
    goals=("sample", "subject"),
    cost=11,
    paper=PAPER,
    needs=("unseen",),
    automatic=False,
    least=_least,
)
def scrub_rewind(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    unseen: Samples | float,
    alpha: float = 0.5,
    gamma: float = 1.0,
    lr: float = 1e-4,
    epochs: int = 5,
    max_epochs: int = 3,
    batch: int = 16,
) -> nn.Module:
    """Return the student of the epoch whose forget error is closest to the error on unseen samples.

    Args:
        unseen: Samples of the forget set's distribution on which the model was never trained, or a model's
            error on such samples, from 0 to 1.
        alpha: α, the weight of obedience on the retain set.
        gamma: γ, the weight of the loss on the retain set.
        lr: Learning rate of AdamW.
        epochs: E, passes over the retain set.
        max_epochs: E_max, how many of them, from the first on, begin with a pass over the forget set.
        batch: Samples in a batch.

    Returns:
        Where the budget ends within the first epoch, the student as it is then.

    Raises:
        InputError: If the reference error is no share, or there are no unseen samples.
    """
    usable = 0 <= unseen <= 1 if isinstance(unseen, int | float) else len(unseen) > 0
    if not usable:
        raise InputError(
            "There is no reference error to rewind to.",
            f"`unseen` is {unseen if isinstance(unseen, int | float) else 'an empty set of samples'}.",
            "Give an error from 0 to 1, or samples of the forget set's distribution.",
        )
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    if not isinstance(unseen, int | float):
        budget.charge(len(unseen), FORWARD)  # set aside for the measurement at the end
    kept: list[tuple[float, dict[str, torch.Tensor]]] = []

    def remember() -> None:
        error = _error(student, forget, loop, batch, FORWARD)
        if error is not None:
            kept.append((error, copy.deepcopy(student.state_dict())))

    _alternate(
        student,
        model,
        forget,
        retain,
        loop,
        alpha=alpha,
        gamma=gamma,
        lr=lr,
        epochs=epochs,
        max_epochs=max_epochs,
        batch=batch,
        after=remember,
    )
    if not kept:
        return student
    if isinstance(unseen, int | float):
        goal = float(unseen)
    else:
        paid = Loop(task, generator, budget, progress)
        goal = _error(student, unseen, paid, batch, 0.0) or 0.0
    student.load_state_dict(min(reversed(kept), key=lambda epoch: abs(epoch[0] - goal))[1])
    return student
