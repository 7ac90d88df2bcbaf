# SPDX-License-Identifier: Apache-2.0
"""Relearn time: the number of steps in which a model learns the forget set again.

    t(θ) = min { t : mean loss of θ_t on H ≤ mean loss of the original on H },  θ_0 = θ,  θ_t+1 = Adam(θ_t, H)

H is half of the forget set (half of its people, if there are several), at most MOST_SAMPLES samples. A step
uses the gradient over all of H, with running statistics fixed. t is interpolated between steps, and is at
most MOST_STEPS. The original needs 0 steps by definition. A model that never saw H needs as many as for
unseen data; a model that only hides H needs fewer.

Golatkar, Achille and Soatto (2020), "Eternal Sunshine of the Spotless Net", and Tarun et al. (2023), "Fast
Yet Effective Machine Unlearning". Difference: they count epochs over the whole forget set, with the schedule
of the training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Subset

from expunge.audits.gate import bounds
from expunge.audits.quick import BATCH, losses_of
from expunge.audits.scores import Scores
from expunge.audits.verdict import Figure
from expunge.tasks.protocol import Samples, Task
from expunge.training.random_state import isolated_rng

RELEARN = "relearning"
RATE = 3e-3
MOST_STEPS = 100
MOST_SAMPLES = 64
UNSEEN_SETS = 5  # disjoint sets of the size of H; without references, their steps are the null
CLOSE = 1e-3  # relative tolerance: sums of the same losses may differ by rounding


class Relearning:
    """Measures the steps in which models reach the loss of the original.

    Args:
        task: Task of the models.
        original: The model whose loss is the target.
        forget, unseen: The data.
        forget_groups, unseen_groups: (n,) numbers of the people.
        seed: Seed of the choice of halves.
    """

    def __init__(
        self,
        task: Task,
        original: nn.Module,
        forget: Samples,
        unseen: Samples,
        forget_groups: NDArray[np.int64],
        unseen_groups: NDArray[np.int64],
        seed: int = 0,
    ) -> None:
        generator = np.random.default_rng(seed)
        half = halves(forget_groups, generator)[0][:MOST_SAMPLES]
        order = by_people(unseen_groups, generator)
        sets = [order[i : i + len(half)] for i in range(0, len(order) - len(half) + 1, len(half))]
        self._task = task
        self._sets = [_subset(forget, half), *(_subset(unseen, rows) for rows in sets[:UNSEEN_SETS])]
        self.n = len(half)
        self._target = float(losses_of(task, original, self._sets[0]).mean())

    def steps(self, model: nn.Module) -> Scores:
        """Return the steps (1 + k,) of a model: for H, then for each set of unseen data."""
        return np.array([steps_to(self._task, model, data, self._target) for data in self._sets])


def steps_to(task: Task, model: nn.Module, data: Samples, target: float) -> float:
    """Return the number of steps until the mean loss reaches the target; at most MOST_STEPS.

    Args:
        task: Task of the model.
        model: It is not changed.
        data: Training data, on which the loss is measured.
        target: Mean loss to reach.
    """
    twin = task.clone(model)
    batches = [
        task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
        for start in range(0, len(data), BATCH)
    ]
    optimizer = torch.optim.Adam(task.parameters(twin).values(), lr=RATE)
    goal, before = target + CLOSE * abs(target), float("inf")
    with isolated_rng():
        for step in range(MOST_STEPS):
            optimizer.zero_grad(set_to_none=True)
            now = 0.0
            for batch in batches:
                loss = task.loss(twin, batch).sum() / len(data)
                loss.backward()  # type: ignore[no-untyped-call]
                now += float(loss.detach())
            if now <= goal:
                return step - 1 + (before - goal) / (before - now) if step else 0.0
            before = now
            optimizer.step()
    return float(MOST_STEPS)


def relearn_figure(
    original: Scores, candidate: Scores, references: Sequence[Scores], level: float, *, full: bool, n: int
) -> Figure | None:
    """Return the figure ``relearn_steps``, which does not affect the verdict; None if there is no null.

    ρ = (candidate − null) / (0 − null) = 1 − candidate / null. With ``full``, the null is the references'
    steps for H, with the interval of their order statistics. Otherwise it is the model's own steps for unseen
    data, with Student's prediction interval, since there are few such sets.

    Args:
        original, candidate, references: Results of :meth:`Relearning.steps`.
        level: Confidence level of the intervals.
        full: Whether the references are the null.
        n: Number of samples in H.
    """
    from scipy.stats import t

    null, own = (np.array([r[0] for r in references]),) * 2 if full else (candidate[1:], original[1:])
    count, steps = len(null), float(candidate[0])
    if count < 2:
        return None
    if full:
        low, high = bounds(null, level)
        least = low
    else:
        wide = float(t.ppf((1 + level) / 2, count - 1)) * np.sqrt(1 + 1 / count)
        low, high = (float(null.mean() + sign * wide * null.std(ddof=1)) for sign in (-1, 1))
        least = float(own.mean() - wide * own.std(ddof=1))
    centre, spread = float(null.mean()), float(null.std(ddof=1)) * np.sqrt(1 + 1 / count)
    distance = abs(steps - centre)
    return Figure(
        name="relearn_steps",
        view=RELEARN,
        original=float(original[0]),
        candidate=steps,
        baseline=centre,
        null=(low, high),
        original_interval=(float(original[0]),) * 2,
        rho=_residual(steps, centre),
        rho_interval=(_residual(steps, low), _residual(steps, high)),
        p=float(t.sf(distance / spread, count - 1)) if spread > 0 else float(distance == 0),
        power=float(original[0]) < least,
        n_forget=n,
        n_unseen=0 if full else n * count,
        units="references" if full else "sets of unseen data",
        n_null=count,
        level=level,
        judged=False,
    )


def _residual(steps: float, null: float) -> float:
    """Return 1 − steps / null; −∞ if the null is not positive."""
    return 1 - steps / null if null > 0 else float("-inf")


def halves(
    groups: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of two halves: of the people, or of the samples if there is only one person.

    The first half is never empty.
    """
    order = by_people(groups, generator)
    names = groups[order]
    if names[0] == names[-1]:
        cut = (len(order) + 1) // 2
    else:
        starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
        cut = int(starts[(len(starts) + 1) // 2]) if len(starts) > 1 else len(order)
    return order[:cut], order[cut:]


def by_people(groups: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return all rows grouped by person, in random order of people and of their rows."""
    shuffled = generator.permutation(len(groups))
    names, inverse = np.unique(groups, return_inverse=True)
    place = generator.permutation(len(names))
    return np.asarray(shuffled[np.argsort(place[inverse[shuffled]], kind="stable")], dtype=np.int64)


def _subset(data: Samples, rows: NDArray[np.int64]) -> Samples:
    return Subset(data, rows.tolist())  # type: ignore[arg-type]
