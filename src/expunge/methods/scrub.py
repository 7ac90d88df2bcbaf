# SPDX-License-Identifier: Apache-2.0
"""SCRUB: distillation that diverges from the teacher on the forget set and follows it on the retain set.

Rule, for epoch t = 1 … E::

    if t ≤ E_max:  a pass over F, step by step   θ ← θ + η ∇ E_{x ∈ F} d(x; θ)
    always:        a pass over R, step by step   θ ← θ − η ∇ [ α·E_{x ∈ R} d(x; θ) + γ·E_{z ∈ R} ℓ(θ; z) ]

    d(x; θ) = KL( p(x; θ_o) ‖ p(x; θ) )

F, R: the forget and the retain set; ℓ: the task's loss; θ_o: the teacher, which is the original model; d:
``Task.divergence``; α, γ: the weights of the divergence and of the loss; E_max: the number of epochs with max
steps.

``scrub_rewind`` (SCRUB+R) keeps the weights after every epoch, and returns those whose error on F is closest
to a reference error: the error on unseen samples *of the forget set's distribution* (for instance, other
pictures of the same class or person; ordinary test data only if F is a random part of all data). A higher
forget error would reveal that the samples were removed. If epochs tie, the latest is returned, since it had
the most repair steps.

Reference: Kurmanji, Triantafillou, Hayes, Triantafillou, *Towards Unbounded Machine Unlearning*, NeurIPS
2023.

Differences:
    - The temperature of d is 1; the authors' code has 4 (or 2).
    - At the start d and its gradient are 0; without dropout or batch statistics, rounding errors determine
      the direction of the first max step. AdamW takes a full step nevertheless.
    - If samples are given, SCRUB+R measures the reference error with the student after the last epoch, as
      the paper does; a number is used as it is. The error is the share of samples with
      ``Task.misclassified``.
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
from expunge.methods.least import LeastWork, SetSizes, exact_work, first_batch
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
    """Train the student by alternating epochs of max and min steps; call ``after`` after each epoch."""
    task = loop.task
    original = task.clone(model)
    forget_teacher = Teacher(original, forget, loop, min(epochs, max_epochs))
    retain_teacher = Teacher(original, retain, loop, epochs)
    optimizer = loop.optimizer(student, lr)
    share = 2.0 if alpha else 1.0  # outputs and loss are two passes
    # The teacher's forward passes are charged as well, and may exceed the budget.
    with suppress(BudgetSpent):
        for epoch in range(epochs):
            if epoch < max_epochs:
                for indices, samples in loop.batches(forget, batch):
                    targets = forget_teacher.outputs(indices, samples)
                    loop.step(optimizer, -task.divergence(task.outputs(student, samples), targets).mean())
            for indices, samples in loop.batches(retain, batch, share):
                loop.step(
                    optimizer, _min_parts(task, student, retain_teacher, indices, samples, gamma, alpha)
                )
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
    """Yield the parts of a min step's loss; the second is computed after the first one's graph was freed."""
    yield gamma * task.loss(student, samples).mean()
    if alpha:
        targets = teacher.outputs(indices, samples)
        yield alpha * task.divergence(task.outputs(student, samples), targets).mean()


@torch.no_grad()
def _error(model: nn.Module, data: Samples, loop: Loop, batch: int, share: float) -> float | None:
    """Return the share of samples with a wrong prediction; None if the budget ended."""
    wrong = 0
    for _, samples in loop.batches(data, batch, share, shuffle=False):
        wrong += int(loop.task.misclassified(model, samples).sum())
    return None if loop.exhausted else wrong / len(data)


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of a first batch with teacher outputs, and of the error on unseen samples."""
    batch = first_batch(sizes.retain, values)
    retain_work = batch * (2 + FORWARD if values["alpha"] else 1)
    forget_work = first_batch(sizes.forget, values) * (1 + FORWARD)
    unseen = values.get("unseen")
    measurement = 0.0 if unseen is None or isinstance(unseen, int | float) else FORWARD * len(unseen)
    if not values["max_epochs"]:
        return exact_work(measurement + retain_work)
    return LeastWork(measurement + min(forget_work, retain_work), measurement + forget_work)


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
        alpha: α, the weight of the divergence on the retain set.
        gamma: γ, the weight of the loss on the retain set.
        lr: Learning rate of AdamW.
        epochs: E, passes over the retain set.
        max_epochs: E_max, the number of first epochs that begin with a pass over the forget set.
        batch: Samples per batch.
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
        unseen: Samples of the forget set's distribution on which the model was never trained, or the error on
            such samples, from 0 to 1.
        alpha: α, the weight of the divergence on the retain set.
        gamma: γ, the weight of the loss on the retain set.
        lr: Learning rate of AdamW.
        epochs: E, passes over the retain set.
        max_epochs: E_max, the number of first epochs that begin with a pass over the forget set.
        batch: Samples per batch.

    Returns:
        The student; its current state if the budget ends within the first epoch.

    Raises:
        InputError: If the reference error is not in 0–1, or there are no unseen samples.
    """
    valid = 0 <= unseen <= 1 if isinstance(unseen, int | float) else len(unseen) > 0
    if not valid:
        raise InputError(
            "There is no reference error to rewind to.",
            f"`unseen` is {unseen if isinstance(unseen, int | float) else 'an empty set of samples'}.",
            "Give an error from 0 to 1, or samples of the forget set's distribution.",
        )
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    if not isinstance(unseen, int | float):
        budget.charge(len(unseen), FORWARD)  # reserved for the measurement at the end
    states: list[tuple[float, dict[str, torch.Tensor]]] = []

    def keep_state() -> None:
        error = _error(student, forget, loop, batch, FORWARD)
        if error is not None:
            states.append((error, copy.deepcopy(student.state_dict())))

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
        after=keep_state,
    )
    if not states:
        return student
    if isinstance(unseen, int | float):
        goal = float(unseen)
    else:
        free_loop = Loop(task, generator, budget, progress)
        goal = _error(student, unseen, free_loop, batch, 0.0) or 0.0
    student.load_state_dict(min(reversed(states), key=lambda epoch: abs(epoch[0] - goal))[1])
    return student
