# SPDX-License-Identifier: Apache-2.0
"""How the small worlds judge: figures that are means over worlds (see :mod:`methods.bounds`)."""

from __future__ import annotations

from statistics import mean

from methods.bounds import SEEDS
from methods.runs import Runs
from methods.worlds import World
from torch import nn


def residual(world: World, model: nn.Module) -> float:
    """Return ρ = (candidate − reference)/(original − reference): 1 nothing forgotten, 0 as the reference.

    The figure is how much greater the mean loss is on the forget than on the retain set: a model that got
    worse everywhere has forgotten nothing in particular. The reference is the mean of all of the world's.
    """
    reference = mean(world.figures(m)["gap"] for m in world.references)
    original = world.figures(world.original)["gap"]
    return (world.figures(model)["gap"] - reference) / (original - reference)


Done = list[tuple[World, nn.Module]]


def full(runs: Runs, world: str, method: str) -> Done:
    """Return the model of a run in each world, as long and as strong as the method needs."""
    return [(runs.world(world, seed), runs.full(world, seed, method).model) for seed in SEEDS]


def lost(done: Done) -> float:
    """Return by how much the metric on the retain set is lower than the original's."""
    return mean(w.figures(w.original)["retain"] - w.figures(model)["retain"] for w, model in done)


def left(done: Done) -> float:
    """Return ρ, what is left of the way to the reference."""
    return mean(residual(world, model) for world, model in done)


def recognised(done: Done) -> float:
    """Return the metric on the forget set: how much of a class is still recognised."""
    return mean(world.figures(model)["forget"] for world, model in done)
