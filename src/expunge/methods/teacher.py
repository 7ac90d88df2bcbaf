# SPDX-License-Identifier: Apache-2.0
"""A fixed model to learn from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from expunge.methods.base import FORWARD, Loop
from expunge.tasks.protocol import Batch, Samples


class Teacher:
    """A fixed model whose outputs on a data set are computed once, while they fit into memory.

    Args:
        model: Ready to be asked (``Task.clone``); it is not changed.
        data: The samples it will be asked about.
        loop: Is charged for the forward passes.
        asked: How many times it will be asked about each sample; for once, nothing is kept.
        limit_bytes: Memory for what is kept, which is the first samples of ``data``; for others, outputs are
            computed again.
    """

    def __init__(
        self, model: nn.Module, data: Samples, loop: Loop, asked: int, limit_bytes: int = 1 << 30
    ) -> None:
        self._model, self._loop = model, loop
        self._room, self._limit = len(data) if asked > 1 else 0, limit_bytes
        self._kept: dict[str, torch.Tensor] = {}
        self._known = [False] * len(data)

    @torch.no_grad()
    def outputs(self, indices: list[int], batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the outputs for the samples at ``indices``, which ``batch`` holds."""
        if all(self._known[i] for i in indices):
            return {name: kept[indices] for name, kept in self._kept.items()}
        self._loop.budget.charge(len(indices), FORWARD)
        found = {k: v.detach() for k, v in self._loop.task.outputs(self._model, batch).items()}
        if self._room and not self._kept:
            each = sum(v[0].numel() * v.element_size() for v in found.values())
            self._room = min(self._room, self._limit // each)
            self._kept = {k: v.new_empty((self._room, *v.shape[1:])) for k, v in found.items()}
        rows = [row for row, index in enumerate(indices) if index < self._room]
        if rows:
            places = [indices[row] for row in rows]
            for name, kept in self._kept.items():
                kept[places] = found[name][rows] if len(rows) < len(indices) else found[name]
            for place in places:
                self._known[place] = True
        return found
