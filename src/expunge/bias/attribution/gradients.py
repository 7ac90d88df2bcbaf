# SPDX-License-Identifier: Apache-2.0
"""The gradient of each sample's loss as a short vector, for attribution.

There are two kinds; the first is used where it applies:

* ``last-layer``: the model ends in a linear layer z = Wh + b. The gradient by (W, b) is g ⊗ (h, 1) with g =
  ∂ℓ/∂z. So one forward pass of a batch and a backward pass down to z give the gradients of all its samples in
  closed form (Pruthi et al. 2020, section 4.2).
* ``projected``: any other model (a detector). The gradient by all trainable parameters, with one backward
  pass per sample.

Gradients longer than the :class:`~expunge.bias.attribution.sketch.Sketch` are projected by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.bias.attribution.sketch import Sketch
from expunge.errors import InputError
from expunge.tasks.protocol import Batch, Samples, Task

Floats = NDArray[np.float64]
LAST_LAYER, PROJECTED = "last-layer", "projected"
DIMS = 1024
LEAST_DIMS = 128
LIMIT_BYTES = 1 << 30
BATCH = 32
CLOSE = 1e-3  # tolerance between exp(−loss) and the probability for a cross-entropy


@dataclass(frozen=True)
class Gradients:
    """Gradients of the losses of n samples.

    Attributes:
        rows: (n, k), single precision: ∇ℓ, sketched.
        loss: (n,).
        entropy: Whether the loss is −log p of the true class, so that p = exp(−loss).
        kind: ``last-layer`` or ``projected``.
    """

    rows: NDArray[np.float32]
    loss: Floats
    entropy: bool
    kind: str


def sketch_for(samples: int, seed: int = 0) -> Sketch:
    """Return a sketch with which this many gradients take at most 1 GiB, or 128 numbers each."""
    fits = LIMIT_BYTES // (4 * max(samples, 1))
    return Sketch(max(min(DIMS, fits), LEAST_DIMS), seed)


def gradients_of(
    task: Task,
    model: nn.Module,
    data: Samples,
    sketch: Sketch,
    on_images: Callable[[int], None] = lambda count: None,
) -> Gradients:
    """Return the gradients of all samples, in their order.

    Args:
        task: Task of the model.
        model: Prepared by ``Task.ready``, so that samples do not influence each other; it is not changed.
        data: The samples; at least one.
        sketch: The same for all gradients that are compared.
        on_images: Receives the number of samples processed.

    Raises:
        InputError: If there is no sample, or a gradient is not a finite number.
    """
    if not len(data):
        raise InputError("There is no sample.", "Gradients need at least one.", "Give one.")
    batches = _batches(task, data, BATCH)
    first = next(batches)
    head = _linear_head(task, model, first)
    step = _closed_form(task, model, head) if head is not None else _per_sample(task, model)
    rows, losses = [], []
    for batch in chain([first], batches):
        loss, found = step(batch, sketch)
        if not (torch.isfinite(found).all() and torch.isfinite(loss).all()):
            raise InputError(
                "A loss or its gradient is not a finite number.",
                "Such a sample cannot be ranked.",
                "Check weights and images for NaN and infinity.",
            )
        rows.append(found.float().cpu())
        losses.append(loss.double().cpu())
        on_images(len(loss))
    return Gradients(
        torch.cat(rows).numpy(),
        torch.cat(losses).numpy(),
        _is_entropy(task, model, first),
        PROJECTED if head is None else LAST_LAYER,
    )


Step = Callable[[Batch, Sketch], tuple[torch.Tensor, torch.Tensor]]


def _closed_form(task: Task, model: nn.Module, head: nn.Linear) -> Step:
    """Return a step that computes last-layer gradients of a batch in closed form."""

    def step(batch: Batch, sketch: Sketch) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad(), _recorded_calls(head) as calls:
            loss = task.loss(model, batch)
            h, z = calls[-1]
            (g,) = torch.autograd.grad(loss.sum(), z)
        inputs = h.detach()
        if head.bias is not None:
            inputs = torch.cat([inputs, inputs.new_ones((len(inputs), 1))], 1)
        return loss.detach(), sketch((g[:, :, None] * inputs[:, None, :]).flatten(1))

    return step


def _per_sample(task: Task, model: nn.Module) -> Step:
    """Return a step that computes the gradients by all parameters, sample by sample."""
    weights = list(task.parameters(model).values())

    def step(batch: Batch, sketch: Sketch) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            losses, rows = task.loss(model, batch), []
            for i in range(len(losses)):
                found = torch.autograd.grad(losses[i], weights, retain_graph=True, allow_unused=True)
                parts = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
                rows.append(sketch(torch.cat([g.detach().flatten() for g in parts])[None]))
        return losses.detach(), torch.cat(rows)

    return step


def _linear_head(task: Task, model: nn.Module, batch: Batch) -> nn.Linear | None:
    """Return the last linear layer, if it is called once per batch with one vector per sample; else None."""
    blocks = task.layers(model)
    linear = [m for m in blocks[-1].modules() if isinstance(m, nn.Linear)] if blocks else []
    if not linear or not linear[-1].weight.requires_grad:
        return None
    with torch.enable_grad(), _recorded_calls(linear[-1]) as calls:
        loss = task.loss(model, batch)
        if len(calls) != 1 or any(part.ndim != 2 or len(part) != len(loss) for part in calls[0]):
            return None
    return linear[-1]


@contextmanager
def _recorded_calls(layer: nn.Module) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Record inputs and outputs of a layer inside a ``with`` block."""
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = layer.register_forward_hook(lambda _, given, made: calls.append((given[0], made)))
    try:
        yield calls
    finally:
        hook.remove()


def _is_entropy(task: Task, model: nn.Module, batch: Batch) -> bool:
    """Return whether the loss is the cross-entropy."""
    signals = task.signals(model, batch)
    if "logit" not in signals:
        return False
    difference = signals["negative_loss"].double().exp() - signals["logit"].double().sigmoid()
    return bool(difference.abs().max() < CLOSE)


def _batches(task: Task, data: Samples, size: int) -> Iterator[Batch]:
    for start in range(0, len(data), size):
        yield task.collate([data[i] for i in range(start, min(start + size, len(data)))])
