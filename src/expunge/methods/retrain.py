# SPDX-License-Identifier: Apache-2.0
"""Training anew without the forget set: what all other methods are measured against.

Rule::

    θ ← train(R, θ₀)

R: the retain set; θ₀: untrained weights, drawn from the generator.

Reference: Bourtoule et al., *Machine Unlearning*, IEEE S&P 2021, on why nothing less is exact. This is no
exact erasure in the sense of this package, since no plan fixes the training: for that, train erasable.

Differences: recipe and epochs are the task's and the caller's, not those of the original training, unless
they are on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.methods.base import Budget, Progress, register
from expunge.methods.least import nothing
from expunge.tasks.protocol import Samples, Task


@register(
    "retrain",
    goals=("sample", "subject", "class"),
    cost=100,
    paper="Bourtoule et al.: Machine Unlearning. IEEE S&P 2021",
    needs=("epochs",),
    automatic=False,
    least=nothing,
)
def retrain(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    epochs: int,
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a model that was trained on the retain set alone.

    Args:
        epochs: Passes over the retain set; as many as the original training had.
        settings: What else the task's training takes (a learning rate, for instance).

    Raises:
        BudgetSpent: If the budget is below ``epochs`` passes; nothing is done then.
    """
    budget.charge(epochs * len(retain))

    def done(count: int) -> None:
        budget.steps += 1  # it is told once for every batch
        progress.images(count)

    student = task.retrain(model, retain, epochs=epochs, generator=generator, images=done, **(settings or {}))
    progress.round(student)
    return student
