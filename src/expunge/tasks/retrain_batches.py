# SPDX-License-Identifier: Apache-2.0
"""Settings and batch bounds for retraining a plain module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge.errors import InputError


def batch_bounds(count: int, batch: int) -> list[tuple[int, int]]:
    """Return the (start, end) bounds of the batches; a last batch of one sample joins the one before it."""
    starts = list(range(0, count, batch))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def retrain_settings(settings: Mapping[str, Any]) -> tuple[float, int]:
    """Return the learning rate and batch size of a retrain.

    Raises:
        InputError: If a setting is unknown.
    """
    unknown = sorted(set(settings) - {"lr", "batch"})
    if unknown:
        raise InputError(f"A retrain has no setting '{unknown[0]}'.", "It has lr and batch.", "Correct it.")
    return float(settings.get("lr", 1e-3)), int(settings.get("batch", 32))
