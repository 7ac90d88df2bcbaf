# SPDX-License-Identifier: Apache-2.0
"""Retraining without the forget set: the reference for all other methods.

Rule::

    θ ← train(R, θ₀)

R: the retain set; θ₀: untrained weights, drawn from the generator.

Reference: Bourtoule et al., *Machine Unlearning*, IEEE S&P 2021, on why only retraining is exact. It is not
an exact erasure in the sense of this package, which requires a plan that fixes the training.

Differences: recipe and epochs are those of the task and the caller. They equal the original training's only
if these are recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expunge.methods.base import Budget, Progress, register
from expunge.methods.least import no_work
from expunge.tasks.protocol import Samples, Task


@register(
    "retrain",
    goals=("sample", "subject", "class"),
    cost=100,
    paper="Bourtoule et al.: Machine Unlearning. IEEE S&P 2021",
    needs=("epochs",),
    automatic=False,
    least=no_work,
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
    """Return a model trained on the retain set only.

    Args:
        epochs: Passes over the retain set; as many as in the original training.
        settings: Further settings of the task's training, such as a learning rate.

    Raises:
        BudgetSpent: If the budget is below ``epochs`` passes; no training is done then.
    """
    budget.charge(epochs * len(retain))

    def count_batch(count: int) -> None:
        budget.steps += 1  # called once per batch
        progress.images(count)

    student = task.retrain(
        model, retain, epochs=epochs, generator=generator, images=count_batch, **(settings or {})
    )
    progress.round(student)
    return student
