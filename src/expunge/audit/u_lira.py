# SPDX-License-Identifier: Apache-2.0
"""U-LiRA: can models that unlearned a sample be told from models that never saw it?

Hayes et al. 2024, "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy",
after Kurmanji et al. 2023. LiRA, with "trained on it, then unlearned it" in the place of "trained on it":
every shadow model trains on half of the targets and unlearns them; for the other half it is a model that
never saw them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audit.checks import mask, numbers
from expunge.audit.lira import Variance, fit, online
from expunge.audit.scores import Scores
from expunge.errors import InputError

Model = TypeVar("Model")
Train = Callable[[NDArray[np.int64], np.random.Generator], Model]
"""Trains a model on these targets and on all that is no target."""
Unlearn = Callable[[Model, NDArray[np.int64], np.random.Generator], Model]
"""The method under audit, with these targets as the forget set."""
Score = Callable[[Model], Scores]
"""Scores all targets (n,)."""


@dataclass(frozen=True)
class Shadows:
    """Shadow models' scores.

    Attributes:
        scores: (K, n) after unlearning.
        unlearned: (K, n) whether the model had seen the target, and unlearned it.
    """

    scores: Scores
    unlearned: NDArray[np.bool_]


def run_shadows(
    targets: int,
    count: int,
    train: Train[Model],
    unlearn: Unlearn[Model],
    score: Score[Model],
    generator: np.random.Generator,
) -> Shadows:
    """Train and unlearn shadow models; every target is unlearned by exactly half of them.

    Args:
        targets: How many targets there are, n ≥ 2.
        count: How many shadow models, K: even, at least 4.
        train, unlearn, score: The protocol; each call gets a generator of its own.
        generator: All randomness.

    Raises:
        InputError: If the numbers are too small or ``count`` is odd.
    """
    if targets < 2 or count < 4 or count % 2:
        raise InputError(
            f"U-LiRA cannot work with {targets} targets and {count} shadow models.",
            "Halves of the targets are unlearned by pairs of models.",
            "Use at least 2 targets and an even number of at least 4 models.",
        )
    scores, unlearned = np.empty((count, targets)), np.zeros((count, targets), dtype=bool)
    for pair in range(0, count, 2):
        order = generator.permutation(targets)
        halves = order[: targets // 2], order[targets // 2 :]
        for k, half in enumerate(halves, pair):
            chosen = np.sort(half).astype(np.int64)
            own_train, own_unlearn = generator.spawn(2)
            model = unlearn(train(chosen, own_train), chosen, own_unlearn)
            scores[k] = numbers(score(model), "a shadow model")
            unlearned[k, chosen] = True
    return Shadows(scores, unlearned)


def u_lira(target: ArrayLike, shadows: Shadows, *, variance: Variance | None = None) -> Scores:
    """Return the log-likelihood ratio "unlearned it" to "never saw it" for every target (n,).

    Args:
        target: Scores (n,) of the candidate.
        shadows: Of models made in the same way.
        variance: See :func:`expunge.audit.lira.fit`.

    Raises:
        InputError: As :func:`expunge.audit.lira.online`.
    """
    return online(target, shadows.scores, shadows.unlearned, variance=variance)


def leave_one_out(shadows: Shadows, *, variance: Variance | None = None) -> Scores:
    """Attack every shadow model with all others: log-likelihood ratios (K, n).

    ``scores[unlearned]`` against ``scores[~unlearned]`` is what the attack reaches on this method: an AUC of
    0.5 means that it cannot tell.

    Raises:
        InputError: As :func:`expunge.audit.lira.fit`, for what is left without one model.
    """
    scores = numbers(shadows.scores, "the shadow models", dimensions=2, least=4)
    flags = mask(shadows.unlearned, scores.shape, "whether it was unlearned", default=False)
    found = np.empty_like(scores)
    for k in range(len(scores)):
        rest, left = np.delete(scores, k, axis=0), np.delete(flags, k, axis=0)
        inside, outside = fit(rest, left, variance), fit(rest, ~left, variance)
        found[k] = inside.log_density(scores[k]) - outside.log_density(scores[k])
    return found
