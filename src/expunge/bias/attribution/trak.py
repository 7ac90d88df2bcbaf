# SPDX-License-Identifier: Apache-2.0
"""TRAK: the effect of a training sample on a target's loss, by one Newton step in projected gradients.

Rule, of one model::

    harm(i) = g_Tᵀ (ΦᵀΦ + λI)⁻¹ φ_i · (1 − p_i)

φ_i = ∇f(z_i), the projected gradient of the output f = log(p/(1 − p)), p the probability of the true class;
Φ: the φ_i of all samples that the model was trained on; 1 − p_i: the derivative of the loss by the output, up
to sign (Q in the paper); g_T = −(1/|T|) Σ_t (1 − p_t) φ_t: the gradient of the mean loss on the target. Over
several models (checkpoints, shards) that saw the sample, the two factors are averaged separately and then
multiplied.

If the loss is not −log p (a detector), the output is the loss itself: φ = −∇ℓ and Q = 1. This is the
influence function with the empirical Fisher information in place of the Hessian (Koh and Liang, ICML 2017).

Reference: Park, Georgiev, Ilyas, Leclerc and Mądry, *TRAK: Attributing Model Behavior at Scale*, ICML 2023,
eq. 17 and section 3.2.

Differences: the sign and the target, so that the score estimates the loss on the target and higher is worse.
λ is a share of the mean eigenvalue of ΦᵀΦ. φ is computed from the gradient of the loss, φ = −∇ℓ/(1 − p), with
1 − p clipped at 10⁻⁵, the limit of single precision. With ``weighted`` the matrix is ΦᵀRΦ with R = diag(p(1 −
p)), as before the paper drops R: for a logistic regression with penalty λ/2‖θ‖² this is the exact influence
function. The models were trained on all attributed data or a shard of it, not on random halves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expunge.bias.attribution.gradients import Floats, Gradients
from expunge.bias.attribution.tracin import Visit
from expunge.errors import InputError

DAMPING = 0.1
LEAST = 1e-5


def trak(
    visits: Sequence[Visit],
    count: int,
    *,
    damping: float = DAMPING,
    penalty: float | None = None,
    weighted: bool = False,
) -> Floats:
    """Return the harm of every training sample (n,), higher is worse; NaN where no final model saw it.

    Args:
        visits: Checkpoints; those that are not final are skipped.
        count: n.
        damping: λ as a share of the mean eigenvalue of ΦᵀΦ.
        penalty: λ itself, if it is known (for a logistic regression); it takes precedence over ``damping``.
        weighted: Use R; see the module.

    Raises:
        InputError: If damping or penalty is not positive.
    """
    if not (damping if penalty is None else penalty) > 0:
        raise InputError(
            "The damping of TRAK must be positive.", "Without it the matrix has no inverse.", "Give 0.1."
        )
    harm, share, models = np.zeros(count), np.zeros(count), np.zeros(count)
    for visit in visits:
        if not visit.final:
            continue
        phi, q = _outputs(visit.train)
        towards = np.asarray(visit.target.rows.mean(0, dtype=np.float64))
        scale = np.sqrt(q * (1 - q)) if weighted and visit.train.entropy else np.ones(len(q))
        harm[visit.rows] += phi @ _solve(np.asarray(scale[:, None] * phi), towards, damping, penalty)
        share[visit.rows] += q
        models[visit.rows] += 1
    seen = models > 0
    found = np.full(count, np.nan)
    found[seen] = (harm[seen] / models[seen]) * (share[seen] / models[seen])
    return found


def _outputs(train: Gradients) -> tuple[Floats, Floats]:
    """Return φ (s, k) and Q (s,)."""
    rows = train.rows.astype(np.float64)
    if not train.entropy:
        return -rows, np.ones(len(rows))
    q = np.maximum(-np.expm1(-train.loss), LEAST)
    return np.asarray(-rows / q[:, None]), np.asarray(q)


def _solve(phi: Floats, towards: Floats, damping: float, penalty: float | None) -> Floats:
    """Return (ΦᵀΦ + λI)⁻¹ t (k,), through the smaller of the two Gram matrices."""
    samples, dims = phi.shape
    level = damping * float(np.square(phi).sum()) / min(samples, dims) if penalty is None else penalty
    level = max(level, np.finfo(np.float64).tiny)
    if dims <= samples:
        return np.asarray(np.linalg.solve(phi.T @ phi + level * np.eye(dims), towards))
    dual = np.linalg.solve(phi @ phi.T + level * np.eye(samples), phi @ towards)
    return np.asarray((towards - phi.T @ dual) / level)
