# SPDX-License-Identifier: Apache-2.0
"""Collect the scores of a model on which attacks work."""

from __future__ import annotations

import torch
from torch import nn

from expunge.audits.input_checks import numbers
from expunge.audits.scores import Scores
from expunge.tasks.protocol import Samples, Task

BATCH = 32


@torch.no_grad()
def collect(task: Task, model: nn.Module, data: Samples, *, batch: int = BATCH) -> dict[str, Scores]:
    """Return all signals of a task by name, (n,) each; higher means "member".

    Args:
        task: Computes the signals.
        model: Prepared by ``task.clone`` or ``task.ready``.
        data: The samples; an empty dataset gives no signals.
        batch: Batch size.

    Raises:
        InputError: If a score is not finite.
    """
    found: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(data), batch):
        items = [data[i] for i in range(start, min(start + batch, len(data)))]
        for name, values in task.signals(model, task.collate(items)).items():
            found.setdefault(name, []).append(values)
    return {name: numbers(torch.cat(parts).double().cpu().numpy(), name) for name, parts in found.items()}
