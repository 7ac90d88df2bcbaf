# SPDX-License-Identifier: Apache-2.0
"""The estimates of harm by gradients: what ``expunge bias find`` and its benchmarks both call."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Subset

from expunge.bias.checkpoints import Checkpoint, OnImages, visit_all
from expunge.bias.gradients import Floats
from expunge.bias.ranking import TRACIN, TRAK
from expunge.bias.targets import Chosen
from expunge.bias.tracin import tracin
from expunge.bias.trak import trak
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
        task: Knows losses and layers.
        checkpoints: States of one training.
        train: All n training samples.
        held: The validation samples.
        chosen: Which of them are the target: their mean loss is to fall.
        seed: Of the sketch.
        on_images: Is told of the samples done.

    Raises:
        InputError: See :func:`~expunge.bias.gradients.gradients_of`.
    """
    target: Samples = Subset(held, chosen.rows.tolist())  # type: ignore[arg-type]
    visits = visit_all(task, checkpoints, train, target, seed=seed, on_images=on_images)
    count = len(train)
    return {TRAK: trak(visits, count), TRACIN: tracin(visits, count)}, visits[0].train.kind
