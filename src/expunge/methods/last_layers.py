# SPDX-License-Identifier: Apache-2.0
"""Training of a model's last layers, for CF-k and EU-k."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from expunge.errors import InputError
from expunge.methods.base import Loop
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Samples, Task

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def last_layers(model: nn.Module, task: Task, k: int) -> list[nn.Module]:
    """Return the last k layers of ``Task.layers``.

    Raises:
        InputError: If there are fewer layers, or the last k have no trainable parameter.
    """
    layers = task.layers(model)
    if not 1 <= k <= len(layers):
        raise InputError(
            f"There are no last {k} layers.",
            f"The model has {len(layers)}.",
            f"Choose k from 1 to {len(layers)}.",
        )
    trainable = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    if not any(trainable[-k:]):
        smallest = trainable[::-1].index(True) + 1 if any(trainable) else None
        raise InputError(
            f"Nothing in the last {k} layers may be changed.",
            "All of their parameters have requires_grad=False.",
            f"Choose k={smallest} or greater, or thaw a layer." if smallest else "Choose another method.",
        )
    return layers[-k:]


@contextmanager
def _only_trainable(layers: list[nn.Module], model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Freeze all other layers during the block, so that the backward pass ends early; yield the weights."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    inside = {id(p) for layer in layers for p in layer.parameters()}
    others = [p for p in trainable if id(p) not in inside]
    for p in others:
        p.requires_grad_(False)
    try:
        yield [p for p in trainable if id(p) in inside]
    finally:
        for p in others:
            p.requires_grad_(True)


def train_last(
    student: nn.Module,
    layers: list[nn.Module],
    retain: Samples,
    loop: Loop,
    *,
    lr: float,
    epochs: int,
    batch: int,
    statistics: bool,
) -> None:
    """Train some layers on the retain set; all other layers do not change.

    Args:
        student: The model; it is changed.
        layers: Layers of the student; their frozen parameters stay frozen.
        retain: Training data.
        loop: Draws the batches; charged a full pass per sample.
        lr: Learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples per batch.
        statistics: Whether batch norm in these layers uses batch statistics and updates the running ones
            (except for a batch of one sample).
    """
    norms = [
        module
        for layer in layers
        for module in layer.modules()
        if isinstance(module, BATCH_NORM) and any(p.requires_grad for p in module.parameters())
    ]
    with _only_trainable(layers, student) as weights:
        optimizer = adamw(weights, lr, weight_decay=0.0)
    for _ in range(epochs):
        with _only_trainable(layers, student):
            for indices, samples in loop.batches(retain, batch):
                for norm in norms:
                    norm.train(statistics and len(indices) > 1)
                loop.step(optimizer, loop.task.loss(student, samples).mean())
        for norm in norms:
            norm.eval()
        loop.round(student)
        if loop.exhausted:
            break
