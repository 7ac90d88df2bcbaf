# SPDX-License-Identifier: Apache-2.0
"""Small classifiers whose retraining without each sample is cheap, for the tests of attribution."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch.utils.data import Subset, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.leave_out import Problem, Recipe, module_of, problem, task, train, truth

from expunge.bias.attribution.gradients import gradients_of, sketch_for
from expunge.bias.attribution.tracin import Visit
from expunge.tasks.protocol import Samples

LINEAR = Recipe(hidden=0, steps=100)
SAMPLES = 100
SEEDS = (0, 1, 2)
MANY = tuple(range(8))


@dataclass(frozen=True)
class World:
    """A trained classifier with its gradients, and the harm that samples and contributors truly do."""

    problem: Problem
    recipe: Recipe
    inits: tuple[int, ...]
    target: NDArray[np.int64]
    visits: list[Visit]
    members: list[NDArray[np.int64]]

    @cached_property
    def samples(self) -> NDArray[np.float64]:
        """By how much the target's loss falls without each sample (n,)."""
        return self._truth([np.array([i]) for i in range(len(self.problem.x))])

    @cached_property
    def contributors(self) -> NDArray[np.float64]:
        """The same without each contributor (10,)."""
        return self._truth(self.members)

    def by_contributor(self, harm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the summed harm of every contributor."""
        return np.array([harm[rows].sum() for rows in self.members])

    def _truth(self, groups: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        return truth(self.problem, groups, self.recipe, self.inits, self.target)


@cache
def linear(seed: int) -> World:
    """Return a softmax regression near its optimum, with checkpoints on the way."""
    return world(seed, LINEAR, (0,))


def world(
    seed: int,
    recipe: Recipe,
    inits: tuple[int, ...],
    samples: int = SAMPLES,
    pool: int = 2,
    bad: tuple[int, ...] = (0, 1),
    held: int = 400,
    every: bool = False,
) -> World:
    """Train on a problem, and take gradients at three checkpoints.

    Args:
        seed: Of the problem.
        recipe: How to train.
        inits: Seeds of initial weights; the truth is averaged over them, the first one's model is looked at.
        samples: Training samples.
        pool, bad: See :func:`benchmarks.leave_out.problem`.
        held: How many of the held-out samples are looked at.
        every: The target is their mean loss; else that of those which the model gets wrong.
    """
    drawn = problem(seed, samples, bad=bad, pool=pool)
    whole = np.ones((1, samples), dtype=bool)
    at = (recipe.steps // 4, recipe.steps // 2, recipe.steps)
    weights, kept = train(drawn, whole, recipe, inits[0], at)
    how = task()
    model = how.clone(module_of(weights))
    wrong = how.misclassified(model, (drawn.held_x[:held], drawn.held_y[:held])).numpy()
    rows = np.arange(held) if every else np.flatnonzero(wrong)
    data: Samples = TensorDataset(drawn.x, drawn.y)
    target: Samples = Subset(TensorDataset(drawn.held_x, drawn.held_y), rows.tolist())
    sketch = sketch_for(samples)
    visits = []
    for state in kept:
        ready = how.clone(module_of(state))
        found = [gradients_of(how, ready, part, sketch) for part in (data, target)]
        visits.append(Visit(np.arange(samples), *found, final=state is kept[-1]))
    members = [np.flatnonzero(drawn.contributor == c) for c in range(10)]
    return World(drawn, recipe, inits, rows, visits, members)


def rho(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation."""
    return float(spearmanr(a, b).statistic)


def pairs(count: int, generator: torch.Generator, classes: int = 4, width: int = 5) -> TensorDataset:
    """Return random samples of a classifier."""
    x = torch.randn((count, width), generator=generator)
    return TensorDataset(x, torch.randint(classes, (count,), generator=generator))
