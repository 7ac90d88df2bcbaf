# SPDX-License-Identifier: Apache-2.0
"""Training nothing but a model's last layers, which CF-k and EU-k share."""

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
    """Return the last k of ``Task.layers``.

    Raises:
        InputError: If there are not so many, or nothing in them may be changed.
    """
    layers = task.layers(model)
    if not 1 <= k <= len(layers):
        raise InputError(
            f"There are no last {k} layers.",
            f"The model has {len(layers)}.",
            f"Choose k from 1 to {len(layers)}.",
        )
    learns = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    if not any(learns[-k:]):
        least = learns[::-1].index(True) + 1 if any(learns) else None
        raise InputError(
            f"Nothing in the last {k} layers may be changed.",
            "All of their parameters have requires_grad=False.",
            f"Choose k={least} or greater, or thaw a layer." if least else "Choose another method.",
        )
    return layers[-k:]


@contextmanager
def _only(layers: list[nn.Module], model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Let nothing but these layers learn, so that the backward pass ends there; yields what learns."""
    learns = [p for p in model.parameters() if p.requires_grad]
    inside = {id(p) for layer in layers for p in layer.parameters()}
    others = [p for p in learns if id(p) not in inside]
    for p in others:
        p.requires_grad_(False)
    try:
        yield [p for p in learns if id(p) in inside]
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
    """Train some layers on the retain set, and leave all others as they are.

    Args:
        student: Is changed.
        layers: Of the student; what is frozen in them stays frozen.
        retain: What to train on.
        loop: Draws and is charged, a full pass for every sample.
        lr: Learning rate of AdamW.
        epochs: Passes over the retain set.
        batch: Samples in a batch.
        statistics: Whether batch norm in these layers uses the statistics of the batch and updates the
            running ones (a batch of one sample does not).
    """
    norms = [
        module
        for layer in layers
        for module in layer.modules()
        if isinstance(module, BATCH_NORM) and any(p.requires_grad for p in module.parameters())
    ]
    with _only(layers, student) as weights:
        optimizer = adamw(weights, lr, weight_decay=0.0)
    for _ in range(epochs):
        with _only(layers, student):
            for indices, samples in loop.batches(retain, batch):
                for norm in norms:
                    norm.train(statistics and len(indices) > 1)
                loop.step(optimizer, loop.task.loss(student, samples).mean())
        for norm in norms:
            norm.eval()
        loop.round(student)
        if loop.exhausted:
            break
