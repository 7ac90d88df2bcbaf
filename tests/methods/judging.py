# SPDX-License-Identifier: Apache-2.0
"""Figures by which the small worlds judge methods: means over worlds (see :mod:`methods.bounds`)."""

from __future__ import annotations

from statistics import mean

from methods.bounds import SEEDS
from methods.runs import Runs
from methods.worlds import World
from torch import nn


def residual(world: World, model: nn.Module) -> float:
    """Return ρ = (candidate − reference)/(original − reference): 1 is nothing forgotten, 0 is the reference.

    The figure is the mean loss on the forget set minus that on the retain set: a model that is worse
    everywhere has forgotten nothing in particular. The reference is the mean over the world's references.
    """
    reference = mean(world.figures(m)["gap"] for m in world.references)
    original = world.figures(world.original)["gap"]
    return (world.figures(model)["gap"] - reference) / (original - reference)


Done = list[tuple[World, nn.Module]]


def full(runs: Runs, world: str, method: str) -> Done:
    """Return the model of a full run in each world, with the method's length and strength."""
    return [(runs.world(world, seed), runs.full(world, seed, method).model) for seed in SEEDS]


def lost(done: Done) -> float:
    """Return the decrease of the retain metric below the original's."""
    return mean(w.figures(w.original)["retain"] - w.figures(model)["retain"] for w, model in done)


def left(done: Done) -> float:
    """Return ρ, the remaining share of the way to the reference."""
    return mean(residual(world, model) for world, model in done)


def recognised(done: Done) -> float:
    """Return the metric on the forget set: the share of a class that is still recognised."""
    return mean(world.figures(model)["forget"] for world, model in done)
