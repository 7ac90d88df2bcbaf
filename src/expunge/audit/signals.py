# SPDX-License-Identifier: Apache-2.0
"""Gets the scores that attacks work with from a model, through its task."""

from __future__ import annotations

import torch
from torch import nn

from expunge.audit.checks import numbers
from expunge.audit.scores import Scores
from expunge.tasks.protocol import Samples, Task

BATCH = 32


@torch.no_grad()
def collect(task: Task, model: nn.Module, data: Samples, *, batch: int = BATCH) -> dict[str, Scores]:
    """Return every signal of a task for every sample, by name (n,); higher means "member".

    Args:
        task: Whose signals.
        model: Made ready by ``task.clone`` or ``task.ready``.
        data: The samples; none of them gives no signal.
        batch: Samples that are scored together.

    Raises:
        InputError: If the model gives a score that is no finite number.
    """
    found: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(data), batch):
        items = [data[i] for i in range(start, min(start + batch, len(data)))]
        for name, values in task.signals(model, task.collate(items)).items():
            found.setdefault(name, []).append(values)
    return {name: numbers(torch.cat(parts).double().cpu().numpy(), name) for name, parts in found.items()}
