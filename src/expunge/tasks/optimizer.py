# SPDX-License-Identifier: Apache-2.0
"""AdamW, fused where torch supports it."""

from __future__ import annotations

from collections.abc import Iterable

import torch

FUSED_ON = ("cpu", "cuda", "mps")


def adamw(parameters: Iterable[torch.Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over some parameters, fused (one pass over each instead of a dozen) where torch can.

    Args:
        parameters: Leaf tensors. Complex ones and those on unsupported devices use the plain implementation.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
    """
    weights = list(parameters)
    fused = all(w.is_floating_point() and w.device.type in FUSED_ON for w in weights)
    return torch.optim.AdamW(weights, lr=lr, weight_decay=weight_decay, fused=fused)
