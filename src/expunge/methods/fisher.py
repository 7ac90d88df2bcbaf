# SPDX-License-Identifier: Apache-2.0
"""Per-sample gradients, and the importance of weights computed from them.

Gradients are batched with ``vmap`` where the task allows it; otherwise there is one backward pass per sample.
Measured on one CPU core with at most CHUNK_FLOATS gradients at a time, batching is 2 to 13 times as fast as
single passes on small networks, and equally fast on larger ones. Beyond that limit the gradients exceed the
cache and batching is slower, so large models use single passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as tree

from expunge.errors import InputError
from expunge.methods.base import Loop
from expunge.tasks.protocol import Batch, Samples, Task
from expunge.tasks.working_copy import places

Value = Callable[[nn.Module, Batch], torch.Tensor]
"""Returns a differentiable number for every sample of a batch (B,), as ``Task.loss`` does."""

Gradients = dict[str, torch.Tensor]
CHUNK_FLOATS = 1 << 21
CHUNK_SAMPLES = 64
WORTH_BATCHING = 4
TRIED = 2  # samples with which batching is tested


class _ValueModel(nn.Module):
    """A model whose forward pass returns the value, so that ``functional_call`` can replace its weights."""

    def __init__(self, model: nn.Module, value: Value) -> None:
        super().__init__()
        self.inner, self._value = model, value

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._value(self.inner, batch)


def _as_batch(part: Any) -> Any:
    """Return a batch of the one sample that vmap passes."""
    return tree.tree_map_only(torch.Tensor, lambda value: value.unsqueeze(0), part)


def _batched(task: Task, model: nn.Module, value: Value, names: list[str]) -> Callable[[Batch], Gradients]:
    wrapped = _ValueModel(model, value)
    all_weights = dict(model.named_parameters())
    weights = {f"inner.{name}": all_weights[name].detach() for name in names}
    placed = {place: name for place, name in places(wrapped).items() if name in weights}

    def value_of(changed: Gradients, sample: Batch) -> torch.Tensor:
        tensors = {place: changed[name] for place, name in placed.items()}
        return functional_call(wrapped, tensors, (_as_batch(sample),), tie_weights=False).sum()  # type: ignore[no-any-return]

    batched_value = vmap(value_of, in_dims=(0, 0))

    def gradients(batch: Batch) -> Gradients:
        # Each sample has its own copy of the weights, so that autograd separates their gradients.
        # torch.func.grad would work as well, but its first call imports the compiler, which takes seconds.
        size = task.size(batch)
        per_sample = {name: w.expand(size, *w.shape).requires_grad_() for name, w in weights.items()}
        with torch.enable_grad():
            total = batched_value(per_sample, batch).sum()
            sample_gradients = torch.autograd.grad(total, list(per_sample.values()), allow_unused=True)
        return {
            name: torch.zeros_like(w) if g is None else g
            for name, w, g in zip(names, per_sample.values(), sample_gradients, strict=True)
        }

    return gradients


def _unbatched(model: nn.Module, value: Value, names: list[str]) -> Callable[[Batch], Gradients]:
    all_weights = dict(model.named_parameters())
    weights = [all_weights[name] for name in names]

    def gradients(batch: Batch) -> Gradients:
        with torch.enable_grad():
            total = value(model, batch).sum()
            sample_gradients = torch.autograd.grad(total, weights, allow_unused=True)
        return {
            name: (torch.zeros_like(weight) if g is None else g).detach().unsqueeze(0)
            for name, weight, g in zip(names, weights, sample_gradients, strict=True)
        }

    return gradients


def per_sample_gradients(loop: Loop, model: nn.Module, data: Samples, value: Value) -> Iterator[Gradients]:
    """Yield per-sample gradients in chunks, in random order, until the data or the budget ends.

    Args:
        loop: Charged a full pass per sample.
        model: A ready model (``Task.ready``), in which samples are independent; it is not changed.
        data: The samples.
        value: The function to differentiate.

    Yields:
        Gradients by parameter name, (b, *shape of the parameter), b ≤ CHUNK_SAMPLES.
    """
    task = loop.task
    names = list(task.parameters(model))
    size = sum(weight.numel() for weight in task.parameters(model).values())
    chunk = min(CHUNK_FLOATS // max(size, 1), CHUNK_SAMPLES)
    gradients = _unbatched(model, value, names)
    if task.vectorised and chunk >= WORTH_BATCHING and len(data) > 1:
        batched = _batched(task, model, value, names)
        if _works(batched, task, data, loop):
            gradients = batched
        else:
            chunk = 1
    else:
        chunk = 1
    for _, batch in loop.batches(data, chunk):
        yield gradients(batch)


def _works(batched: Callable[[Batch], Gradients], task: Task, data: Samples, loop: Loop) -> bool:
    """Return whether vmap supports the model, by running it on two samples."""
    loop.budget.charge(TRIED)
    try:
        batched(task.collate([data[0], data[1]]))
    except (RuntimeError, ValueError, TypeError, InputError):
        return False
    return True


def importance(
    loop: Loop, model: nn.Module, data: Samples, value: Value, *, squared: bool = True, batch: int = 1
) -> tuple[Gradients, int]:
    """Return the mean of g² (or |g|), where g is the gradient of the value's mean over ``batch`` samples.

    With the loss as value and batches of one sample, the mean of g² is the diagonal of the empirical Fisher
    information. Only running sums are kept. If the budget ends first, the mean is over a random part of the
    data.

    Args:
        loop: Charged a full pass per sample.
        model: A ready model; it is not changed.
        data: The samples.
        value: The function to differentiate.
        squared: Whether to use g² instead of |g|.
        batch: Number of samples whose gradients are averaged before squaring.

    Returns:
        The importance by parameter name, and the number of samples used.
    """
    total = {
        name: torch.zeros_like(p, requires_grad=False) for name, p in loop.task.parameters(model).items()
    }
    seen = terms = 0
    for gradients, count in _gradients(loop, model, data, value, batch):
        for name, g in gradients.items():
            total[name] += (g.square() if squared else g.abs()).sum(0)
        terms += len(next(iter(gradients.values())))
        seen += count
    return {name: summed / max(terms, 1) for name, summed in total.items()}, seen


def _gradients(
    loop: Loop, model: nn.Module, data: Samples, value: Value, batch: int
) -> Iterator[tuple[Gradients, int]]:
    if batch == 1:
        for gradients in per_sample_gradients(loop, model, data, value):
            yield gradients, len(next(iter(gradients.values())))
        return
    total = _unbatched(model, value, list(loop.task.parameters(model)))
    for indices, samples in loop.batches(data, batch):
        yield {name: g / len(indices) for name, g in total(samples).items()}, len(indices)
