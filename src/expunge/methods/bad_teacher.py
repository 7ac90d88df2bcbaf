# SPDX-License-Identifier: Apache-2.0
"""Bad teacher: distil the original model on the retain set and an untrained one on the forget set.

Rule::

    θ ← argmin over a few epochs of  E_{x ∈ F ∪ R′} [ (1 − u)·KL( T_s(x) ‖ S(x) ) + u·KL( T_d(x) ‖ S(x) ) ]

F: the forget set (u = 1); R′: a random part of the retain set (u = 0); S: the student, with weights θ; T_s:
the competent teacher, which is the original model; T_d: the incompetent teacher, which has random untrained
weights (``Task.fresh``); KL: ``Task.divergence``.

Reference: Chundawat, Tarun, Mandal, Kankanhalli, *Can Bad Teaching Induce Forgetting? Unlearning in Deep
Networks Using an Incompetent Teacher*, AAAI 2023.

Differences:
    - A batch comes from F or from R′, in random order; the authors mix both in a batch. A pass uses the same
      samples with the same weights.
    - Batches have 16 samples instead of 256, since small forget sets would give hardly any steps.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import ceil
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from expunge.methods.base import Budget, BudgetSpent, Loop, Progress, register
from expunge.methods.least import FORWARD, LeastWork, SetSizes, first_batch
from expunge.methods.teacher import Teacher
from expunge.tasks.protocol import Samples, Task


def _least(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of a batch of either set with teacher outputs; the first batch is chosen at random."""
    rest = min(max(round(values["part"] * sizes.retain), 1), sizes.retain)
    batches = first_batch(sizes.forget, values), first_batch(rest, values)
    return LeastWork((1 + FORWARD) * min(batches), (1 + FORWARD) * max(batches))


@register(
    "bad_teacher",
    goals=("sample", "subject", "class"),
    cost=0.6,
    paper="Chundawat, Tarun, Mandal, Kankanhalli: Can Bad Teaching Induce Forgetting? AAAI 2023",
    least=_least,
)
def bad_teacher(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    part: float = 0.3,
    lr: float = 1e-4,
    epochs: int = 1,
    batch: int = 16,
) -> nn.Module:
    """Return the student of the two teachers.

    Args:
        part: |R′| / |R|, the share of the retain set that is used.
        lr: Learning rate of AdamW.
        epochs: Passes over F and R′.
        batch: Samples per batch.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    count = min(max(round(part * len(retain)), 1), len(retain))
    drawn = torch.randperm(len(retain), generator=generator)[:count].tolist()
    rest: Samples = Subset(retain, drawn)  # type: ignore[arg-type]
    teachers = (
        Teacher(task.fresh(model, generator), forget, loop, epochs),
        Teacher(task.clone(model), rest, loop, epochs),
    )
    turns = torch.tensor([0] * ceil(len(forget) / batch) + [1] * ceil(len(rest) / batch))
    optimizer = loop.optimizer(student, lr)
    # The teachers' forward passes are charged as well, and may exceed the budget.
    with suppress(BudgetSpent):
        for _ in range(epochs):
            streams = loop.batches(forget, batch), loop.batches(rest, batch)
            for turn in turns[torch.randperm(len(turns), generator=generator)].tolist():
                drawn_batch = next(streams[turn], None)
                if drawn_batch is None:
                    break
                indices, samples = drawn_batch
                teacher = teachers[turn].outputs(indices, samples)
                loop.step(optimizer, task.divergence(task.outputs(student, samples), teacher).mean())
            loop.round(student)
            if loop.exhausted:
                break
    return student
