# SPDX-License-Identifier: Apache-2.0
"""From models to what attribution needs of them: gradients at each checkpoint, and held-out confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Subset

from expunge.bias.gradients import BATCH, Floats, gradients_of, sketch_for
from expunge.bias.tracin import Visit
from expunge.tasks.protocol import Batch, Samples, Task

OnImages = Callable[[int], None]


@dataclass(frozen=True)
class Checkpoint:
    """One state of a training.

    Attributes:
        open: Returns the model, ready to be asked.
        rows: (s,) which training samples it had seen.
        rate, final: See :class:`~expunge.bias.tracin.Visit`.
        shard: Of an erasable training; None: it saw everybody's data.
    """

    open: Callable[[], nn.Module]
    rows: NDArray[np.int64]
    rate: Floats | float = 1.0
    final: bool = True
    shard: int | None = None


def visit_all(
    task: Task,
    checkpoints: Sequence[Checkpoint],
    train: Samples,
    target: Samples,
    *,
    seed: int = 0,
    on_images: OnImages = lambda count: None,
) -> list[Visit]:
    """Take the gradients of training and target samples at every checkpoint.

    Args:
        task: Knows losses and layers.
        checkpoints: States of one training.
        train: All n training samples; a checkpoint's ``rows`` are places in it.
        target: Samples whose loss is to fall.
        seed: Of the sketch.
        on_images: Is told of the samples done.

    Raises:
        InputError: See :func:`~expunge.bias.gradients.gradients_of`.
    """
    sketch = sketch_for(sum(len(point.rows) for point in checkpoints), seed)
    visits = []
    for point in checkpoints:
        model = point.open()
        own: Samples = Subset(train, point.rows.tolist())  # type: ignore[arg-type]
        visits.append(
            Visit(
                point.rows,
                gradients_of(task, model, own, sketch, on_images),
                gradients_of(task, model, target, sketch, on_images),
                point.rate,
                point.final,
            )
        )
    return visits


def held_out(
    ask: Callable[[nn.Module, Samples], Floats],
    checkpoints: Sequence[Checkpoint],
    train: Samples,
) -> Floats:
    """Return what shards say of the samples that they never saw, averaged; NaN where all saw one.

    A shard speaks as it last stood, also where the published model was polished on all data afterwards.

    Args:
        ask: Returns a row (n, …) for each sample.
        checkpoints: In the order of the training; those that are of no shard are passed over.
        train: All training samples.
    """
    last = {c.shard: c for c in checkpoints if c.shard is not None}
    shards = list(last.values())
    total: Floats | None = None
    counts = np.zeros(len(train))
    for point in shards:
        rows = np.setdiff1d(np.arange(len(train)), point.rows)
        if not len(rows):
            continue
        found = ask(point.open(), Subset(train, rows.tolist()))  # type: ignore[arg-type]
        if total is None:
            total = np.zeros((len(train), *found.shape[1:]))
        total[rows] += found
        counts[rows] += 1
    if total is None:
        return np.full(len(train), np.nan)
    shape = (len(train),) + (1,) * (total.ndim - 1)
    known = counts.reshape(shape)
    averaged: Floats = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    return averaged


@torch.no_grad()
def asked(
    task: Task,
    model: nn.Module,
    data: Samples,
    question: Callable[[nn.Module, Batch], torch.Tensor],
    on_images: OnImages = lambda count: None,
) -> Floats:
    """Return the answers to a question (n, …) about every sample, batch by batch.

    Args:
        task: Collates.
        model: Ready to be asked.
        data: The samples.
        question: Returns (b, …) for a batch.
        on_images: Is told of the samples done.
    """
    found = []
    for start in range(0, len(data), BATCH):
        batch = task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
        found.append(question(model, batch).double().cpu())
        on_images(len(found[-1]))
    return torch.cat(found).numpy() if found else np.zeros(0)


def mistaken_of(task: Task, model: nn.Module, data: Samples) -> NDArray[np.bool_]:
    """Return whether the model is wrong about each sample (n,)."""
    return asked(task, model, data, task.mistaken).astype(bool)


def probabilities_of(task: Task, model: nn.Module, data: Samples) -> Floats:
    """Return a classifier's probabilities (n, C)."""
    return asked(task, model, data, lambda m, batch: task.outputs(m, batch)["logits"].double().softmax(1))


def features_of(task: Task, model: nn.Module, data: Samples) -> Floats:
    """Return what the last layer sees (n, D)."""
    return asked(task, model, data, task.features)


def doubts_of(task: Task, model: nn.Module, data: Samples) -> Floats:
    """Return by kind how much the model contradicts each sample's label (n, K), in 0–1."""

    def question(model: nn.Module, batch: Batch) -> torch.Tensor:
        return torch.stack(list(task.doubts(model, batch).values()), 1)

    return asked(task, model, data, question)
