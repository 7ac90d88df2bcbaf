# SPDX-License-Identifier: Apache-2.0
"""Slow truth for attribution: train again without each sample (or group of samples), all of them at once.

The models of all left-out groups stand side by side in one batched matrix product, full-batch gradient
descent with momentum, so that a hundred retrainings of a small classifier take seconds and repeat to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from expunge.tasks.module import ModuleTask
from expunge.tasks.protocol import Task

CLASSES = 10
MOMENTUM = 0.9
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Digits by contributors, some labels of one of them wrong.

    Attributes:
        x, y: (n, d) and (n,): training samples with the labels as given.
        contributor: (n,) who gave each.
        wrong: (n,) which labels are wrong.
        held_x, held_y: Validation samples.
    """

    x: torch.Tensor
    y: torch.Tensor
    contributor: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    held_x: torch.Tensor
    held_y: torch.Tensor


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        hidden: Width of the hidden layer; 0: a softmax regression.
        steps: Of gradient descent on the whole data.
        rate: Learning rate.
        decay: Weight decay.
    """

    hidden: int = 0
    steps: int = 300
    rate: float = 0.5
    decay: float = 1e-2


def problem(
    seed: int,
    samples: int = 150,
    contributors: int = 10,
    bad: Sequence[int] = (0, 1),
    share: float = 0.5,
    pool: int = 1,
) -> Problem:
    """Draw a problem: ``share`` of the labels of the contributors ``bad`` are wrong.

    Args:
        seed: Of the choice.
        samples: n.
        contributors: Among whom the samples are divided at random.
        bad: Those of them who err.
        share: How often they do.
        pool: Average the 8×8 pixels over squares of this side: 1, 2 or 4.
    """
    rng = np.random.default_rng(seed)
    pictures, digits = load_digits(return_X_y=True)
    order = rng.permutation(len(digits))
    pixels = torch.tensor(pictures[order] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    x = nn.functional.avg_pool2d(pixels, pool).flatten(1)
    y = digits[order].astype(np.int64)
    who = rng.integers(0, contributors, samples)
    wrong = np.isin(who, bad) & (rng.random(samples) < share)
    given = y[:samples].copy()
    given[wrong] = (given[wrong] + rng.integers(1, CLASSES, int(wrong.sum()))) % CLASSES
    held = slice(samples, samples + 400)
    return Problem(x[:samples], torch.tensor(given), who, wrong, x[held], torch.tensor(y[held]))


def train(
    problem: Problem,
    keep: NDArray[np.bool_],
    recipe: Recipe,
    seed: int,
    at: Sequence[int] = (),
) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    """Train m models at once, each on its own part of the data.

    Args:
        problem: The data.
        keep: (m, n) which samples each model is trained on.
        recipe: How.
        seed: Of the initial weights, which all m models share.
        at: Steps after which states are kept.

    Returns:
        The weights [(m, in, out), (m, 1, out), …] at the end, and those at the steps asked for.
    """
    m, n = keep.shape
    generator = torch.Generator().manual_seed(seed)
    width = problem.x.shape[1]
    sizes = [width, recipe.hidden, CLASSES] if recipe.hidden else [width, CLASSES]
    weights: list[torch.Tensor] = []
    for a, b in pairwise(sizes):
        scale = a**-0.5 if recipe.hidden else 0.0
        weights += [
            (torch.randn((1, a, b), generator=generator) * scale).expand(m, a, b).clone(),
            torch.zeros((m, 1, b)),
        ]
    mask = torch.tensor(keep, dtype=torch.float32)
    mask = mask / mask.sum(1, keepdim=True)
    x, y = problem.x.expand(m, n, width), problem.y.expand(m, n)
    speed = [torch.zeros_like(w) for w in weights]
    kept = []
    for step in range(recipe.steps):
        for w in weights:
            w.requires_grad_()
        logits = _forward(x, weights)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(m, n)
        penalty = sum(recipe.decay / 2 * w.square().sum() for w in weights)
        found = torch.autograd.grad((loss * mask).sum() + penalty, weights)
        speed = [MOMENTUM * v + g for v, g in zip(speed, found, strict=True)]
        weights = [(w - recipe.rate * v).detach() for w, v in zip(weights, speed, strict=True)]
        if step + 1 in at:
            kept.append(weights)
    return weights, kept


def losses(problem: Problem, weights: Sequence[torch.Tensor], rows: NDArray[np.int64]) -> Floats:
    """Return the mean loss of each model on some validation samples (m,)."""
    m = len(weights[0])
    x, y = problem.held_x[rows], problem.held_y[rows]
    logits = _forward(x.expand(m, *x.shape), weights).double()
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(m), reduction="none")
    return np.asarray(loss.view(m, len(rows)).mean(1))


def truth(
    problem: Problem,
    groups: Sequence[NDArray[np.int64]],
    recipe: Recipe,
    seeds: Sequence[int],
    rows: NDArray[np.int64],
) -> Floats:
    """Return by how much the target's loss falls when each group is left out, averaged over initial weights.

    Args:
        problem: The data.
        groups: Training samples to leave out together.
        recipe: How to train.
        seeds: Of the initial weights.
        rows: The target: validation samples.
    """
    keep = np.ones((len(groups) + 1, len(problem.x)), dtype=bool)
    for i, gone in enumerate(groups):
        keep[i + 1, gone] = False
    found = np.mean([losses(problem, train(problem, keep, recipe, s)[0], rows) for s in seeds], axis=0)
    return np.asarray(found[0] - found[1:])


def module_of(weights: Sequence[torch.Tensor], number: int = 0) -> nn.Sequential:
    """Return one of the models as a module."""
    layers: list[nn.Module] = []
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        linear = nn.Linear(w.shape[1], w.shape[2])
        with torch.no_grad():
            linear.weight.copy_(w[number].T)
            linear.bias.copy_(b[number, 0])
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def task() -> Task:
    """Return the task of these classifiers."""
    return ModuleTask(nn.CrossEntropyLoss(reduction="none"))


def _forward(x: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    for i in range(0, len(weights), 2):
        x = torch.baddbmm(weights[i + 1], x, weights[i])
        if i + 2 < len(weights):
            x = x.relu()
    return x
