# SPDX-License-Identifier: Apache-2.0
"""Probe of a model with weights rounded to 8 bits, as for a small device.

The quantisation is simulated: weights are rounded and stored as floats, activations and accumulators keep
full precision. So the probe shows the effect of rounding alone. It is symmetric, with one scale per output
channel:

    ŵ = s·clamp(round(w / s), −127, 127),   s = max |w of the channel| / 127

Rounding can undo small edits: Zhang et al. (2025, ICLR), "Catastrophic Failure of LLM Unlearning via
Quantization", report it for language models at 4 bits.
"""

from __future__ import annotations

import torch
from torch import nn

from expunge.tasks.protocol import Task

INT8 = "after INT8"
BITS = 8


@torch.no_grad()
def quantised(task: Task, model: nn.Module, bits: int = BITS) -> nn.Module:
    """Return a copy in which parameters of two or more dimensions are rounded; biases and norms are not.

    Args:
        task: Task of the model.
        model: It is not changed.
        bits: Bits per weight, at least 2.
    """
    twin = task.clone(model)
    for parameter in twin.parameters():
        if parameter.ndim >= 2 and parameter.is_floating_point():
            parameter.copy_(fake_quantise(parameter, bits))
    return twin


def fake_quantise(weights: torch.Tensor, bits: int = BITS) -> torch.Tensor:
    """Return weights (out, …) rounded to a symmetric grid of 2^bits − 1 levels per output channel."""
    top = 2 ** (bits - 1) - 1
    rows = weights.flatten(1)
    scale = rows.abs().amax(1, keepdim=True) / top
    rounded: torch.Tensor = (rows / scale.clamp(min=torch.finfo(rows.dtype).tiny)).round().clamp(
        -top, top
    ) * scale
    return rounded.view_as(weights)
