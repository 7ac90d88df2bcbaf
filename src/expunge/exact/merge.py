# SPDX-License-Identifier: Apache-2.0
"""Merging of shards to one model: mean weights in float64, in a fixed order.

Weight averaging from a common start: Wortsman et al. 2022 ("Model soups"). Batch-norm statistics are pooled
as those of an equal mixture, including the spread of the means between shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def average(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the average of state dicts of one architecture; a single state is copied unchanged.

    Running variances become mean(var + mean²) − mean(mean)², the variance of an equal mixture. Integer
    tensors (batch counters) take the largest value.
    """
    import torch

    if not states:
        raise ValueError("nothing to average")
    if len(states) == 1:
        return {name: value.clone() for name, value in states[0].items()}
    merged: dict[str, torch.Tensor] = {}
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if not first.is_floating_point():
            merged[name] = torch.stack(values).amax(0)
            continue
        mean = _mean([v.double() for v in values])
        if name.endswith("running_var") and f"{name.removesuffix('var')}mean" in states[0]:
            means = [state[f"{name.removesuffix('var')}mean"].double() for state in states]
            spread = _mean([m.square() for m in means]) - _mean(means).square()
            mean = mean + spread.clamp_min(0)
        merged[name] = mean.to(first.dtype)
    return merged


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    total = values[0].clone()
    for value in values[1:]:
        total += value
    return total / len(values)
