# SPDX-License-Identifier: Apache-2.0
"""Settings of a retrain of a plain module, and the bounds of its batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge.errors import InputError


def cuts_of(count: int, batch: int) -> list[tuple[int, int]]:
    """Return the bounds of the batches; a remainder of one sample joins the batch before it."""
    starts = list(range(0, count, batch))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def retrain_settings(settings: Mapping[str, Any]) -> tuple[float, int]:
    """Return learning rate and batch size of a retrain.

    Raises:
        InputError: If there is a setting that a retrain does not have.
    """
    unknown = sorted(set(settings) - {"lr", "batch"})
    if unknown:
        raise InputError(f"A retrain has no setting '{unknown[0]}'.", "It has lr and batch.", "Correct it.")
    return float(settings.get("lr", 1e-3)), int(settings.get("batch", 32))
