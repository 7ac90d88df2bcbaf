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
        limit_bytes: Memory for what is kept; beyond it outputs are computed again.
    """

    def __init__(self, model: nn.Module, data: Samples, loop: Loop, limit_bytes: int = 1 << 30) -> None:
        self._model, self._data, self._loop, self._left = model, data, loop, limit_bytes
        self._kept: dict[int, dict[str, torch.Tensor]] = {}

    @torch.no_grad()
    def outputs(self, indices: list[int], batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the outputs for the samples at ``indices``, which ``batch`` holds."""
        if all(i in self._kept for i in indices):
            names = self._kept[indices[0]]
            return {name: torch.stack([self._kept[i][name] for i in indices]) for name in names}
        self._loop.budget.charge(len(indices), FORWARD)
        found = {k: v.detach() for k, v in self._loop.task.outputs(self._model, batch).items()}
        for row, index in enumerate(indices):
            if index in self._kept:
                continue
            size = sum(v[row].numel() * v.element_size() for v in found.values())
            if size <= self._left:
                self._left -= size
                self._kept[index] = {name: value[row].clone() for name, value in found.items()}
        return found
