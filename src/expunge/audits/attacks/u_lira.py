# SPDX-License-Identifier: Apache-2.0
"""U-LiRA: a likelihood ratio attack on models that unlearned a sample.

Hayes et al. 2024, "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy",
after Kurmanji et al. 2023. It is LiRA with "trained on it, then unlearned it" in place of "trained on it".
Each shadow model trains on half of the targets and unlearns them; the other half it never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audits.attacks.lira import Variance, fit, online
from expunge.audits.input_checks import mask, numbers
from expunge.audits.scores import Scores
from expunge.errors import InputError

Model = TypeVar("Model")
Train = Callable[[NDArray[np.int64], np.random.Generator], Model]
"""Trains a model on these targets and on all samples that are not targets."""
Unlearn = Callable[[Model, NDArray[np.int64], np.random.Generator], Model]
"""Runs the method under audit with these targets as the forget set."""
Score = Callable[[Model], Scores]
"""Scores all targets (n,)."""


@dataclass(frozen=True)
class Shadows:
    """Scores of the shadow models.

    Attributes:
        scores: (K, n) after unlearning.
        unlearned: (K, n) whether the model was trained on the target and unlearned it.
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
    """Train and unlearn shadow models, and return their scores; half of them unlearn each target.

    Args:
        targets: Number of targets, n ≥ 2.
        count: Number of shadow models, K: even, at least 4.
        train, unlearn, score: Callbacks; each call gets its own generator.
        generator: Random generator.

    Raises:
        InputError: If a number is too small, or ``count`` is odd.
    """
    if targets < 2 or count < 4 or count % 2:
        raise InputError(
            f"U-LiRA cannot work with {targets} targets and {count} shadow models.",
            "Each pair of models unlearns the two halves of the targets.",
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
    """Return the log-likelihood ratio of "unlearned it" to "never saw it" for each target (n,).

    Args:
        target: Scores (n,) of the candidate.
        shadows: Scores of models made in the same way.
        variance: See :func:`expunge.audits.attacks.lira.fit`.

    Raises:
        InputError: As :func:`expunge.audits.attacks.lira.online`.
    """
    return online(target, shadows.scores, shadows.unlearned, variance=variance)


def leave_one_out(shadows: Shadows, *, variance: Variance | None = None) -> Scores:
    """Return the log-likelihood ratios (K, n) of an attack on each shadow model by all the others.

    The AUC of ``scores[unlearned]`` against ``scores[~unlearned]`` is the power of the attack on this method;
    0.5 is chance.

    Raises:
        InputError: As :func:`expunge.audits.attacks.lira.fit`, for the remaining models.
    """
    scores = numbers(shadows.scores, "the shadow models", dimensions=2, least=4)
    flags = mask(shadows.unlearned, scores.shape, "whether it was unlearned", default=False)
    found = np.empty_like(scores)
    for k in range(len(scores)):
        rest, rest_flags = np.delete(scores, k, axis=0), np.delete(flags, k, axis=0)
        inside, outside = fit(rest, rest_flags, variance), fit(rest, ~rest_flags, variance)
        found[k] = inside.log_density(scores[k]) - outside.log_density(scores[k])
    return found
