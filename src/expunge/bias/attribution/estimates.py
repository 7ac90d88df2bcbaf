# SPDX-License-Identifier: Apache-2.0
"""Gradient-based estimates of harm, for ``expunge bias find`` and its benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Subset

from expunge.bias.attribution.checkpoints import Checkpoint, OnImages, visit_all
from expunge.bias.attribution.gradients import Floats
from expunge.bias.attribution.ranking import TRACIN, TRAK
from expunge.bias.attribution.targets import Chosen
from expunge.bias.attribution.tracin import tracin
from expunge.bias.attribution.trak import trak
from expunge.tasks.protocol import Samples, Task


def attribute(
    task: Task,
    checkpoints: Sequence[Checkpoint],
    train: Samples,
    held: Samples,
    chosen: Chosen,
    *,
    seed: int = 0,
    on_images: OnImages = lambda count: None,
) -> tuple[dict[str, Floats], str]:
    """Return the harm of each training sample (n,) by estimate, higher is worse, and the kind of gradients.

    Args:
        task: Task of the models.
        checkpoints: Checkpoints of one training.
        train: All n training samples.
        held: The validation samples.
        chosen: The target among them, whose mean loss is to be reduced.
        seed: Seed of the sketch.
        on_images: Receives the number of samples processed.

    Raises:
        InputError: See :func:`~expunge.bias.attribution.gradients.gradients_of`.
    """
    target: Samples = Subset(held, chosen.rows.tolist())  # type: ignore[arg-type]
    visits = visit_all(task, checkpoints, train, target, seed=seed, on_images=on_images)
    count = len(train)
    return {TRAK: trak(visits, count), TRACIN: tracin(visits, count)}, visits[0].train.kind
