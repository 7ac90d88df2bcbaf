# SPDX-License-Identifier: Apache-2.0
"""Gradients at each checkpoint, and held-out predictions, for attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Subset

from expunge.bias.attribution.gradients import BATCH, Floats, gradients_of, sketch_for
from expunge.bias.attribution.tracin import Visit
from expunge.tasks.protocol import Batch, Samples, Task

OnImages = Callable[[int], None]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a training.

    Attributes:
        open: Returns the model in evaluation mode.
        rows: (s,) indices of the training samples that it had seen.
        rate, final: See :class:`~expunge.bias.attribution.tracin.Visit`.
        shard: Shard of an erasable model; None: it saw all samples.
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
    """Return the gradients of training and target samples at each checkpoint.

    Args:
        task: Task of the models.
        checkpoints: Checkpoints of one training.
        train: All n training samples; a checkpoint's ``rows`` are indices into it.
        target: Samples whose loss is to be reduced.
        seed: Seed of the sketch.
        on_images: Receives the number of samples processed.

    Raises:
        InputError: See :func:`~expunge.bias.attribution.gradients.gradients_of`.
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
    predict: Callable[[nn.Module, Samples], Floats],
    checkpoints: Sequence[Checkpoint],
    train: Samples,
) -> Floats:
    """Return the mean predictions of shards for samples that they never saw; NaN if all shards saw a sample.

    The last checkpoint of each shard is used, even if the published model was polished on all data
    afterwards.

    Args:
        predict: Returns predictions (n, …).
        checkpoints: In the order of the training; those without a shard are skipped.
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
        predictions = predict(point.open(), Subset(train, rows.tolist()))  # type: ignore[arg-type]
        if total is None:
            total = np.zeros((len(train), *predictions.shape[1:]))
        total[rows] += predictions
        counts[rows] += 1
    if total is None:
        return np.full(len(train), np.nan)
    shape = (len(train),) + (1,) * (total.ndim - 1)
    known = counts.reshape(shape)
    averaged: Floats = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    return averaged


@torch.no_grad()
def evaluate_batches(
    task: Task,
    model: nn.Module,
    data: Samples,
    function: Callable[[nn.Module, Batch], torch.Tensor],
    on_images: OnImages = lambda count: None,
) -> Floats:
    """Return the values of a function of model and batch for all samples (n, …).

    Args:
        task: Collates batches.
        model: Model in evaluation mode.
        data: The samples.
        function: Returns (b, …) for a batch.
        on_images: Receives the number of samples processed.
    """
    found = []
    for start in range(0, len(data), BATCH):
        batch = task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
        found.append(function(model, batch).double().cpu())
        on_images(len(found[-1]))
    return torch.cat(found).numpy() if found else np.zeros(0)


def misclassified_of(task: Task, model: nn.Module, data: Samples) -> NDArray[np.bool_]:
    """Return whether the model misclassifies each sample (n,)."""
    return evaluate_batches(task, model, data, task.misclassified).astype(bool)


def probabilities_of(task: Task, model: nn.Module, data: Samples) -> Floats:
    """Return a classifier's probabilities (n, C)."""
    return evaluate_batches(
        task, model, data, lambda m, batch: task.outputs(m, batch)["logits"].double().softmax(1)
    )


def features_of(task: Task, model: nn.Module, data: Samples) -> Floats:
    """Return the inputs of the last layer (n, D)."""
    return evaluate_batches(task, model, data, task.features)


def label_doubts_of(task: Task, model: nn.Module, data: Samples) -> Floats:
    """Return the doubts about each sample's label by kind (n, K), in 0–1."""

    def doubts(model: nn.Module, batch: Batch) -> torch.Tensor:
        return torch.stack(list(task.label_quality(model, batch).values()), 1)

    return evaluate_batches(task, model, data, doubts)
