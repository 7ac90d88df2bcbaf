# SPDX-License-Identifier: Apache-2.0
"""The gradient of every sample's loss as a short vector, for attribution.

Two kinds, of which the first is taken where it can be:

* ``last-layer``: the model ends in a linear layer z = Wh + b. The gradient by (W, b) is g ⊗ (h, 1) with
  g = ∂ℓ/∂z, so that one forward pass of a batch and a backward pass as far as z give the gradients of all its
  samples in closed form (Pruthi et al. 2020, section 4.2).
* ``projected``: anything else (a detector). The gradient by all parameters that may learn, one backward pass
  for each sample.

Both are shortened by a :class:`~expunge.bias.sketch.Sketch` where they are longer than it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.bias.sketch import Sketch
from expunge.errors import InputError
from expunge.tasks.protocol import Batch, Samples, Task

Floats = NDArray[np.float64]
LAST_LAYER, PROJECTED = "last-layer", "projected"
DIMS = 1024
LEAST_DIMS = 128
LIMIT_BYTES = 1 << 30
BATCH = 32
CLOSE = 1e-3  # between exp(−loss) and the probability: the loss is a cross-entropy


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
    """Return a sketch with which so many gradients take at most 1 GiB, or 128 numbers each."""
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
        task: Knows loss and layers.
        model: Ready (``Task.ready``), so that samples do not influence each other; it is not changed.
        data: The samples; at least one.
        sketch: The same for all gradients that will be compared.
        on_images: Is told of the samples done.

    Raises:
        InputError: If there is no sample, or a gradient is not a finite number.
    """
    if not len(data):
        raise InputError("There is no sample to take gradients of.", "The list is empty.", "Give one.")
    batches = _batches(task, data, BATCH)
    first = next(batches)
    head = _linear_head(task, model, first)
    step = _closed_form(task, model, head) if head is not None else _each(task, model)
    rows, losses = [], []
    for batch in _again(first, batches):
        loss, found = step(batch, sketch)
        if not (torch.isfinite(found).all() and torch.isfinite(loss).all()):
            raise InputError(
                "A loss or its gradient is not a finite number.",
                "With such a sample nothing can be ranked.",
                "Look for weights or pictures that hold NaN or infinity.",
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
    def step(batch: Batch, sketch: Sketch) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad(), _watched(head) as calls:
            loss = task.loss(model, batch)
            h, z = calls[-1]
            (g,) = torch.autograd.grad(loss.sum(), z)
        seen = h.detach()
        if head.bias is not None:
            seen = torch.cat([seen, seen.new_ones((len(seen), 1))], 1)
        return loss.detach(), sketch((g[:, :, None] * seen[:, None, :]).flatten(1))

    return step


def _each(task: Task, model: nn.Module) -> Step:
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
    """The linear layer in which the model ends: asked once for a batch, one vector for each sample."""
    blocks = task.layers(model)
    linear = [m for m in blocks[-1].modules() if isinstance(m, nn.Linear)] if blocks else []
    if not linear or not linear[-1].weight.requires_grad:
        return None
    with torch.enable_grad(), _watched(linear[-1]) as calls:
        loss = task.loss(model, batch)
        if len(calls) != 1 or any(part.ndim != 2 or len(part) != len(loss) for part in calls[0]):
            return None
    return linear[-1]


@contextmanager
def _watched(layer: nn.Module) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Note inputs and outputs of a layer for a while."""
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = layer.register_forward_hook(lambda _, given, made: calls.append((given[0], made)))
    try:
        yield calls
    finally:
        hook.remove()


def _is_entropy(task: Task, model: nn.Module, batch: Batch) -> bool:
    said = task.signals(model, batch)
    if "logit" not in said:
        return False
    apart = said["negative_loss"].double().exp() - said["logit"].double().sigmoid()
    return bool(apart.abs().max() < CLOSE)


def _batches(task: Task, data: Samples, size: int) -> Iterator[Batch]:
    for start in range(0, len(data), size):
        yield task.collate([data[i] for i in range(start, min(start + size, len(data)))])


def _again(first: Batch, others: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from others
