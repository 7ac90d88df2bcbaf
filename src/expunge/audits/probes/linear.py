# SPDX-License-Identifier: Apache-2.0
"""Linear probe: membership inference from the inputs of the last layer.

A ridge regression is fitted to distinguish retained from unseen samples by the model's features and their
squares, and is applied to the forgotten samples. It is cross-fitted: each of two probes learns from half of
the retained and half of the unseen samples, and scores the other half of the unseen and half of the forgotten
samples. So both sides are scored by a probe that saw neither. In a model that never saw the forget set,
forgotten and unseen samples score the same.

Probes of hidden layers: Alain and Bengio (2017), "Understanding intermediate layers using linear classifier
probes". Difference: the squares, since members differ by the size of their features, not by one direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.audits.probes.relearn import halves
from expunge.audits.quick import BATCH
from expunge.audits.scores import Scores
from expunge.tasks.protocol import Samples, Task

LINEAR = "linear probe"
RIDGE = 0.1  # per sample, for standardised columns
MAX_RETAINED = 500  # retained samples that the probes learn from


@dataclass(frozen=True)
class Folds:
    """Rows for fitting and for scoring, the same for all models.

    Attributes:
        learnt: (r,) retained rows that are used.
        retain: For each of the two probes, the places in ``learnt`` that it is fitted to.
        unseen: For each probe, the unseen rows that it is fitted to; it scores those of the other.
        forget: For each probe, the forgotten rows that it scores.
    """

    learnt: NDArray[np.int64]
    retain: tuple[NDArray[np.int64], NDArray[np.int64]]
    unseen: tuple[NDArray[np.int64], NDArray[np.int64]]
    forget: tuple[NDArray[np.int64], NDArray[np.int64]]


def fold(
    retain: int, unseen: NDArray[np.int64], forget: NDArray[np.int64], generator: np.random.Generator
) -> Folds:
    """Return random folds.

    Args:
        retain: Number of retained samples.
        unseen, forget: (n,) numbers of the people; a person is in one half only.
        generator: Random generator.
    """
    rows = generator.permutation(retain)[:MAX_RETAINED]
    places, cut = np.arange(len(rows)), (len(rows) + 1) // 2
    own = places[:cut], places[cut:]
    return Folds(rows, own, halves(unseen, generator), halves(forget, generator))


def cross_fit(retain: Scores, unseen: Scores, forget: Scores, folds: Folds) -> tuple[Scores, Scores]:
    """Return the losses −log σ(s) of the forgotten (n,) and the unseen (m,) samples; low means "member".

    Args:
        retain: Features (r, D) of ``folds.learnt``.
        unseen, forget: Features (m, D) and (n, D).
        folds: See :func:`fold`.
    """
    f, u = np.zeros(len(forget)), np.zeros(len(unseen))
    for k in range(2):
        if not (len(folds.retain[k]) and len(folds.unseen[k])):
            continue
        score = probe(retain[folds.retain[k]], unseen[folds.unseen[k]])
        f[folds.forget[k]] = score(forget[folds.forget[k]])
        u[folds.unseen[1 - k]] = score(unseen[folds.unseen[1 - k]])
    return np.logaddexp(0, -f), np.logaddexp(0, -u)


def probe(members: Scores, others: Scores) -> Callable[[Scores], Scores]:
    """Fit a ridge regression, and return its scoring function.

    w = argmin Σ c_i (y_i − wᵀz_i)² + λn‖w‖² with y = ±1; the score is wᵀz(x) / its standard deviation.
    z are the standardised features and their squares; c gives both sides equal weight.

    Args:
        members, others: Features (n, D) and (m, D).
    """
    both = np.concatenate([members, others])
    mean, spread = both.mean(0), both.std(0) + 1e-6

    def columns(x: Scores) -> Scores:
        z = (x - mean) / spread
        return np.concatenate([z, np.minimum(z**2, 9.0) - 1], axis=1)

    y = np.concatenate([np.ones(len(members)), -np.ones(len(others))])
    c = np.where(y > 0, len(y) / (2 * len(members)), len(y) / (2 * len(others)))
    z = columns(both)
    root = np.sqrt(c)[:, None] * z
    # The dual form has one unknown per sample, for any number of features.
    dual = np.linalg.solve(root @ root.T + RIDGE * len(y) * np.eye(len(y)), np.sqrt(c) * y)
    w = root.T @ dual
    size = float((z @ w).std()) + 1e-12
    return lambda x: np.asarray(columns(x) @ w / size, dtype=np.float64)


@torch.no_grad()
def features_of(task: Task, model: nn.Module, data: Samples) -> Scores:
    """Return the features of each sample (n, D)."""
    found = [
        task.features(model, task.collate([data[i] for i in range(s, min(s + BATCH, len(data)))]))
        for s in range(0, len(data), BATCH)
    ]
    return torch.cat(found).double().cpu().numpy()
