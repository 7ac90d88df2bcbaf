# SPDX-License-Identifier: Apache-2.0
"""One model from several shards: equal weights, float64, fixed order.

Weight averaging from a common start: Wortsman et al. 2022 ("Model soups"). Batch-norm statistics are
pooled as those of an equal mixture, with the between-shard spread of the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def average(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average state dicts of one architecture.

    Running variances become mean(var + mean²) − mean(mean)² (the variance of an equal mixture); integer
    tensors (batch counters) take the largest value. A single state is returned unchanged.
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
