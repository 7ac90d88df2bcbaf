# SPDX-License-Identifier: Apache-2.0
"""Gradients of single samples, and the importance of weights that is made of them.

Batched with ``vmap`` where the task allows it, otherwise one backward pass for each sample. Measured on one
CPU core, with at most CHUNK_FLOATS gradients at a time: batching is 2 to 13 times as fast as single passes on
small networks, and as fast on larger ones; beyond that its gradients fall out of the cache and it is slower,
so for large models single passes are taken.
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
"""Gives a number for every sample of a batch (B,), differentiable: ``Task.loss``, for instance."""

Gradients = dict[str, torch.Tensor]
CHUNK_FLOATS = 1 << 21
CHUNK_SAMPLES = 64
WORTH_BATCHING = 4
TRIED = 2  # samples on which batching is tried


class _Valued(nn.Module):
    """A model whose forward pass gives the value: what ``functional_call`` can run with other weights."""

    def __init__(self, model: nn.Module, value: Value) -> None:
        super().__init__()
        self.inner, self._value = model, value

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._value(self.inner, batch)


def _single(part: Any) -> Any:
    """Return one sample, as vmap hands it over, as a batch of one."""
    return tree.tree_map_only(torch.Tensor, lambda value: value.unsqueeze(0), part)


def _batched(task: Task, model: nn.Module, value: Value, names: list[str]) -> Callable[[Batch], Gradients]:
    wrapped = _Valued(model, value)
    all_weights = dict(model.named_parameters())
    weights = {f"inner.{name}": all_weights[name].detach() for name in names}
    placed = {place: name for place, name in places(wrapped).items() if name in weights}

    def one(changed: Gradients, sample: Batch) -> torch.Tensor:
        given = {place: changed[name] for place, name in placed.items()}
        return functional_call(wrapped, given, (_single(sample),), tie_weights=False).sum()  # type: ignore[no-any-return]

    every = vmap(one, in_dims=(0, 0))

    def gradients(batch: Batch) -> Gradients:
        # Each sample has weights of its own, so that ordinary autograd tells their gradients apart.
        # torch.func.grad would do as well, but its first call imports the compiler: seconds.
        size = task.size(batch)
        own = {name: w.expand(size, *w.shape).requires_grad_() for name, w in weights.items()}
        with torch.enable_grad():
            total = every(own, batch).sum()
            found = torch.autograd.grad(total, list(own.values()), allow_unused=True)
        return {
            name: torch.zeros_like(w) if g is None else g
            for name, w, g in zip(names, own.values(), found, strict=True)
        }

    return gradients


def _alone(model: nn.Module, value: Value, names: list[str]) -> Callable[[Batch], Gradients]:
    all_weights = dict(model.named_parameters())
    weights = [all_weights[name] for name in names]

    def gradients(batch: Batch) -> Gradients:
        with torch.enable_grad():
            total = value(model, batch).sum()
            found = torch.autograd.grad(total, weights, allow_unused=True)
        return {
            name: (torch.zeros_like(weight) if g is None else g).detach().unsqueeze(0)
            for name, weight, g in zip(names, weights, found, strict=True)
        }

    return gradients


def per_sample_gradients(loop: Loop, model: nn.Module, data: Samples, value: Value) -> Iterator[Gradients]:
    """Yield the gradients of some samples at a time, in random order, until the data or the budget ends.

    Args:
        loop: Is charged a full pass for every sample.
        model: Ready (``Task.ready``), so that samples do not influence each other; it is not changed.
        data: The samples.
        value: What to derive.

    Yields:
        By the name of the parameter, (b, *shape of the parameter), b ≤ CHUNK_SAMPLES.
    """
    task = loop.task
    names = list(task.parameters(model))
    size = sum(weight.numel() for weight in task.parameters(model).values())
    chunk = min(CHUNK_FLOATS // max(size, 1), CHUNK_SAMPLES)
    gradients = _alone(model, value, names)
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
    """Try vmap on two samples: a module may do what vmap cannot follow, and only running it tells."""
    loop.budget.charge(TRIED)
    try:
        batched(task.collate([data[0], data[1]]))
    except (RuntimeError, ValueError, TypeError, InputError):
        return False
    return True


def importance(
    loop: Loop, model: nn.Module, data: Samples, value: Value, *, squared: bool = True, batch: int = 1
) -> tuple[Gradients, int]:
    """Return the mean of g² (of |g|), where g is the gradient of the value's mean over ``batch`` samples.

    With the loss as value and batches of one sample, g² gives the diagonal of the empirical Fisher
    information. Only running sums are kept. Where the budget ends before the data, the mean is over a random
    part of it.

    Args:
        loop: Is charged a full pass for every sample.
        model: Ready; it is not changed.
        data: The samples.
        value: What to derive.
        squared: g² or |g|.
        batch: Samples over which the gradient is averaged before it is squared.

    Returns:
        By the name of the parameter, its importance; and the number of samples that were seen.
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
    total = _alone(model, value, list(loop.task.parameters(model)))
    for indices, samples in loop.batches(data, batch):
        yield {name: g / len(indices) for name, g in total(samples).items()}, len(indices)
