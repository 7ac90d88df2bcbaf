# SPDX-License-Identifier: Apache-2.0
"""Random labels: training on wrong targets for the forget set and on true targets for the retain set.

Rule::

    θ ← argmin over a few epochs of  E_{(x, y) ∈ F} ℓ(θ; x, y′) + α·E_{z ∈ R} ℓ(θ; z),   y′ ≠ y at random

F, R: the forget and the retain set; ℓ: the task's loss; y′: a wrong target (``Task.wrong_targets``);
α: the weight of the retain set.

Reference: Golatkar, Achille, Soatto, *Eternal Sunshine of the Spotless Net*, CVPR 2020 (the baseline "Random
Labels"); Graves, Nagisetty, Ganesh, *Amnesiac Machine Learning*, AAAI 2021 ("Unlearning").

Differences:
    - y′ is redrawn at every visit of a sample, so that the model becomes uncertain instead of memorising one
      wrong label; both papers draw it once.
    - An epoch is a pass over the forget set, with a new retain batch for every forget batch; the papers
      iterate over the union, which is α = |R|/|F| at the same number of forget batches.
    - See :mod:`expunge.methods.base`.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.methods.base import Budget, Loop, Progress, register
from expunge.methods.least import both_batches
from expunge.methods.relabel import train_on_wrong_targets
from expunge.tasks.protocol import Samples, Task


@register(
    "random_label",
    goals=("sample", "subject", "class"),
    cost=1,
    paper="Graves, Nagisetty, Ganesh: Amnesiac Machine Learning. AAAI 2021",
    least=both_batches,
)
def random_label(
    model: nn.Module,
    forget: Samples,
    retain: Samples,
    task: Task,
    *,
    generator: torch.Generator,
    budget: Budget,
    progress: Progress,
    alpha: float = 1.0,
    lr: float = 1e-4,
    epochs: int = 5,
    batch: int = 16,
) -> nn.Module:
    """Return the model after some epochs on wrong targets.

    Args:
        alpha: α, the weight of the retain loss.
        lr: Learning rate of AdamW.
        epochs: Passes over the forget set.
        batch: Samples per batch, for each set.
    """
    student = task.clone(model)
    loop = Loop(task, generator, budget, progress)
    optimizer = loop.optimizer(student, lr)
    train_on_wrong_targets(student, forget, retain, loop, optimizer, alpha=alpha, epochs=epochs, batch=batch)
    return student
