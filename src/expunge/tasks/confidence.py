# SPDX-License-Identifier: Apache-2.0
"""How sure a classifier is of the true class, without losing what is close to certain."""

from __future__ import annotations

import torch


def class_signals(logits: torch.Tensor, classes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return ``logit`` and ``margin`` (B,), in double precision; nothing where there is but one class.

    ``logit``: φ = log(p_y / (1 − p_y)) = z_y − log Σ_{j≠y} exp z_j (Carlini et al. 2022). ``margin``:
    z_y − max_{j≠y} z_j.

    Args:
        logits: z (B, C).
        classes: y (B,).
    """
    if logits.shape[1] < 2:
        return {}
    z, own = logits.double(), classes[:, None]
    true = z.gather(1, own).squeeze(1)
    rest = z.scatter(1, own, -torch.inf)
    return {"logit": true - rest.logsumexp(1), "margin": true - rest.amax(1)}
