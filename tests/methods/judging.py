# SPDX-License-Identifier: Apache-2.0
"""How the small worlds judge: bounds that were declared before any method was run."""

from __future__ import annotations

from statistics import mean

from methods.worlds import World
from torch import nn

DROP = 0.05  # of the retain metric
MOVED = 0.75  # of the way from the reference to the original: the least that counts as having moved
BEYOND = -0.25  # on the other side of the reference: the most that counts as not beyond it
PRESENT = 0.2  # of a removed class: the most that may still be recognised


def residual(world: World, model: nn.Module) -> float:
    """Return ρ = (candidate − reference)/(original − reference): 1 nothing forgotten, 0 as the reference.

    The figure is how much greater the mean loss is on the forget than on the retain set: a model that got
    worse everywhere has forgotten nothing in particular. The reference is the mean of all of the world's.
    """
    reference = mean(world.figures(m)["gap"] for m in world.references)
    original = world.figures(world.original)["gap"]
    return (world.figures(model)["gap"] - reference) / (original - reference)
