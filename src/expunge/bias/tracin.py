# SPDX-License-Identifier: Apache-2.0
"""TracIn: how much the steps on a training sample moved the loss on a target, summed over checkpoints.

Rule::

    harm(i) = − Σ_c η_c ⟨∇ℓ(z_i; θ_c), (1/|T|) Σ_{t ∈ T} ∇ℓ(t; θ_c)⟩

c: the checkpoints whose training had seen z_i; η_c: the learning rates of the passes over z_i that ended in
c, summed; T: the target samples. A step on z_i moves θ by −η∇ℓ(z_i), and so the target's loss by about
−η⟨∇ℓ(z_i), ∇ℓ(T)⟩: where that is positive, the sample did harm.

Reference: Pruthi, Liu, Kale and Sundararajan, *Estimating Training Data Influence by Tracing Gradient
Descent*, NeurIPS 2020, eq. 1 and section 3.2 (TracInCP).

Differences: the sign, so that more is worse. Gradients are those of the last layer, or sketched. The rates
are nominal: an optimizer such as AdamW scales its steps. Where only the final model is there (an adopted
one), it is the one checkpoint, which the result says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.bias.gradients import Floats, Gradients


@dataclass(frozen=True)
class Visit:
    """What one checkpoint says of the training samples that it had seen.

    Attributes:
        rows: (s,) which of the n training samples these are.
        train: Their gradients (s, k).
        target: Gradients of the target samples (t, k), of the same sketch.
        rate: (s,) or one for all: learning rates of the passes over each that ended here, summed; 0 for a
            sample that was seen before, and not since the checkpoint before.
        final: Whether it is (a part of) the model that is judged, not a state on the way to it.
    """

    rows: NDArray[np.int64]
    train: Gradients
    target: Gradients
    rate: Floats | float = 1.0
    final: bool = True


def tracin(visits: Sequence[Visit], count: int) -> Floats:
    """Return the harm of every training sample (n,), higher is worse; NaN where no checkpoint saw it.

    Args:
        visits: The checkpoints, in any order.
        count: n.
    """
    harm, seen = np.zeros(count), np.zeros(count, dtype=bool)
    for visit in visits:
        towards = visit.target.rows.mean(0, dtype=np.float64)
        harm[visit.rows] -= visit.rate * (visit.train.rows @ towards)
        seen[visit.rows] = True
    return np.where(seen, harm, np.nan)
