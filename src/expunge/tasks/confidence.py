# SPDX-License-Identifier: Apache-2.0
"""Confidence of a classifier in the true class, computed without saturation near 0 and 1."""

from __future__ import annotations

import torch


def class_signals(logits: torch.Tensor, classes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the signals ``logit`` and ``margin`` (B,) in double precision; none if there is one class.

    ``logit``: φ = log(p_y / (1 − p_y)) = z_y − log Σ_{j≠y} exp z_j (Carlini et al. 2022). ``margin``:
    z_y − max_{j≠y} z_j.

    Args:
        logits: z (B, C).
        classes: y (B,).
    """
    if logits.shape[1] < 2:
        return {}
    z, columns = logits.double(), classes[:, None]
    true = z.gather(1, columns).squeeze(1)
    rest = z.scatter(1, columns, -torch.inf)
    return {"logit": true - rest.logsumexp(1), "margin": true - rest.amax(1)}
