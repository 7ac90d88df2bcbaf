# SPDX-License-Identifier: Apache-2.0
"""A fixed teacher model for distillation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from expunge.methods.base import FORWARD, Loop
from expunge.tasks.protocol import Batch, Samples


class Teacher:
    """A fixed model whose outputs on a data set are computed once, as far as memory allows.

    Args:
        model: A ready model (``Task.clone``); it is not changed.
        data: The data set.
        loop: Charged for the forward passes.
        requests: How often the outputs of each sample are requested; for once, none are cached.
        limit_bytes: Memory of the cache, which holds the first samples of ``data``; outputs of the others are
            recomputed.
    """

    def __init__(
        self, model: nn.Module, data: Samples, loop: Loop, requests: int, limit_bytes: int = 1 << 30
    ) -> None:
        self._model, self._loop = model, loop
        self._capacity, self._limit = len(data) if requests > 1 else 0, limit_bytes
        self._cache: dict[str, torch.Tensor] = {}
        self._is_cached = [False] * len(data)

    @torch.no_grad()
    def outputs(self, indices: list[int], batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the outputs for ``batch``, which contains the samples at ``indices``."""
        if all(self._is_cached[i] for i in indices):
            return {name: cached[indices] for name, cached in self._cache.items()}
        self._loop.budget.charge(len(indices), FORWARD)
        teacher_outputs = {k: v.detach() for k, v in self._loop.task.outputs(self._model, batch).items()}
        if self._capacity and not self._cache:
            bytes_per_sample = sum(v[0].numel() * v.element_size() for v in teacher_outputs.values())
            self._capacity = min(self._capacity, self._limit // bytes_per_sample)
            self._cache = {k: v.new_empty((self._capacity, *v.shape[1:])) for k, v in teacher_outputs.items()}
        rows = [row for row, index in enumerate(indices) if index < self._capacity]
        if rows:
            places = [indices[row] for row in rows]
            for name, cached in self._cache.items():
                cached[places] = (
                    teacher_outputs[name][rows] if len(rows) < len(indices) else teacher_outputs[name]
                )
            for place in places:
                self._is_cached[place] = True
        return teacher_outputs
