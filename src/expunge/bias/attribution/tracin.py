# SPDX-License-Identifier: Apache-2.0
"""TracIn: the effect of the steps on a training sample on a target's loss, summed over checkpoints.

Rule::

    harm(i) = − Σ_c η_c ⟨∇ℓ(z_i; θ_c), (1/|T|) Σ_{t ∈ T} ∇ℓ(t; θ_c)⟩

c: the checkpoints whose training had seen z_i; η_c: the sum of the learning rates of the passes over z_i
since the previous checkpoint; T: the target samples. A step on z_i changes θ by −η∇ℓ(z_i), and so the
target's loss by about −η⟨∇ℓ(z_i), ∇ℓ(T)⟩. If that is positive, the sample is harmful.

Reference: Pruthi, Liu, Kale and Sundararajan, *Estimating Training Data Influence by Tracing Gradient
Descent*, NeurIPS 2020, eq. 1 and section 3.2 (TracInCP).

Differences: the sign, so that higher is worse. Gradients are those of the last layer, or sketched. The rates
are nominal, although an optimizer such as AdamW scales its steps. For an adopted model the final model is the
only checkpoint, which the report says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.bias.attribution.gradients import Floats, Gradients


@dataclass(frozen=True)
class Visit:
    """Gradients at one checkpoint, of the training samples that it had seen and of the target.

    Attributes:
        rows: (s,) indices of these among the n training samples.
        train: Their gradients (s, k).
        target: Gradients of the target samples (t, k), with the same sketch.
        rate: (s,) or a scalar: sum of the learning rates of the passes over each sample since the previous
            checkpoint; 0 for a sample without such a pass.
        final: Whether the checkpoint is (a part of) the published model, not an intermediate state.
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
