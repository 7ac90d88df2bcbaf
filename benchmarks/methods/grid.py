# SPDX-License-Identifier: Apache-2.0
"""With which hyper-parameters each method is tried: as many runs for each, within the same budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.methods.worlds import World
from expunge.methods.base import Method

COARSE, FINE = (0.0, 1.5, 3.0, 4.5), (0.75, 0.375)
"""Powers of the factor by which a method becomes stronger."""
SMALL: dict[str, dict[str, Any]] = {"amun": {"epsilon": 0.32, "steps": 5, "doublings": 4}}
"""Where the defaults alone would spend more than the budget: a coarser search for counterparts."""


def needs(method: Method, world: World, checkpoint: nn.Module | None, batch: int) -> dict[str, Any]:
    """Return what a method is given whatever its strength."""
    given = {"checkpoint": checkpoint, "unseen": world.calibration}
    values = {name: given[name] for name in method.needs}
    if "batch" in method.hyperparameters:
        values["batch"] = batch
    return {**values, **SMALL.get(method.name, {})}


def length(method: Method, affordable: float) -> dict[str, Any]:
    """Return the epochs that the budget allows by the method's own estimate of its cost.

    Args:
        method: The method.
        affordable: Passes over the retain set that the budget allows.
    """
    own, found = method.hyperparameters, {}
    if "epochs" in own:
        found["epochs"] = max(1, int(own["epochs"] * affordable / method.cost))
    if "max_epochs" in own:
        found["max_epochs"] = max(1, round(own["max_epochs"] / own["epochs"] * found["epochs"]))
    return found


def search(method: Method, affordable: float, score: Callable[[dict[str, Any]], float]) -> None:
    """Try ``len(COARSE) + 2 * len(FINE)`` strengths: some far apart, then on either side of the best.

    Args:
        method: The method; one without a strength is run once.
        affordable: See :func:`length`.
        score: Runs a setting and says how far from close it is; infinite if it is no model at all.
    """
    fixed = length(method, affordable)
    if method.strength is None:
        score(fixed)
        return
    name, factor = method.strength
    default = method.hyperparameters[name]
    tried: dict[float, float] = {}

    def attempt(power: float) -> None:
        tried[power] = score({**fixed, name: float(f"{default * factor**power:.4g}")})

    for power in COARSE:
        attempt(power)
    for step in FINE:
        best = min(tried, key=lambda power: (tried[power], power))
        attempt(best - step)
        attempt(best + step)
