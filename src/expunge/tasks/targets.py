# SPDX-License-Identifier: Apache-2.0
"""The classes that occur in the targets of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.tasks.protocol import Batch, Samples, Task

BATCH = 64


def classes_in_targets(task: Task, data: Samples, classes: Sequence[int]) -> NDArray[np.bool_] | None:
    """Return whether each target contains each class (n, C); None where targets do not name classes."""
    parts = list[NDArray[np.bool_]]()
    for start in range(0, len(data), BATCH):
        batch = task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
        present = _present(batch, tuple(classes))
        if present is None:
            return None
        parts.append(present.numpy())
    return np.concatenate(parts) if parts else None


def _present(batch: Batch, classes: tuple[int, ...]) -> torch.Tensor | None:
    """Return whether each target contains each class (B, C); None where targets do not name classes."""
    target = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if not isinstance(target, torch.Tensor):
        return None
    if target.ndim == 1 and not target.is_floating_point():
        return target[:, None].cpu() == torch.tensor(classes)
    if target.ndim == 2 and target.shape[1] > max(classes):
        return target[:, list(classes)].cpu() > 0.5
    return None
