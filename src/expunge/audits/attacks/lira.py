# SPDX-License-Identifier: Apache-2.0
"""LiRA: the likelihood ratio attack, with one Gaussian for each sample.

Carlini et al. 2022, "Membership Inference Attacks From First Principles" (IEEE S&P): algorithm 1 and its
offline variant.

Differences from the paper's code: the global variance is the variance *within* samples, pooled over samples,
not that of all values together. A sample whose shadow scores are all equal gets a thousandth of the global
deviation; the paper's 10⁻³⁰ makes its score almost infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audits.input_checks import mask, numbers, same_columns
from expunge.audits.scores import Scores, log_odds
from expunge.errors import InputError

Variance = Literal["sample", "global"]
PER_SAMPLE = 64
"""Minimum of shadow models per side for a variance of each sample's own."""
LEAST_SPREAD = 1e-3
SMALLEST_LOSS = 2.0**-24
"""Half the spacing of single precision below 1: smaller losses are rounding errors."""


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian for each sample.

    Attributes:
        mean, deviation: (n,).
    """

    mean: Scores
    deviation: Scores

    def log_density(self, values: Scores) -> Scores:
        """Return the log-density of each value (n,) under its Gaussian."""
        z = (values - self.mean) / self.deviation
        return np.asarray(-0.5 * (z**2 + np.log(2 * np.pi)) - np.log(self.deviation), dtype=np.float64)


def logit_of_loss(losses: ArrayLike) -> Scores:
    """Return φ = log(p / (1 − p)) of cross-entropy losses −log p, of any shape.

    φ is close to Gaussian. Losses are clipped at 2⁻²⁴. From logits, φ is exact: z_y − log Σ_{j≠y} exp z_j.

    Raises:
        InputError: If a loss is negative or not finite.
    """
    found = np.asarray(losses, dtype=np.float64)
    flat = numbers(found.ravel(), "the losses")
    if flat.min() < 0:
        raise InputError(
            "A loss is negative.", "It is not the −log of a probability.", "Use the scores as they are."
        )
    return log_odds(found, SMALLEST_LOSS)


def fit(shadows: ArrayLike, usable: ArrayLike | None = None, variance: Variance | None = None) -> Gaussians:
    """Fit a Gaussian to the scores of each sample.

    Args:
        shadows: Scores (K, n) of K models.
        usable: (K, n) which scores to use; None: all.
        variance: ``sample``: unbiased, for each sample; ``global``: pooled over samples; None: ``sample`` if
            each sample has at least 64 scores, else ``global``.

    Raises:
        InputError: If a sample has no score, no sample has two, or the scores of no sample vary.
    """
    scores = numbers(shadows, "the shadow models", dimensions=2)
    kept = mask(usable, scores.shape, "whether the score counts", default=True)
    counts = kept.sum(axis=0)
    if not counts.all():
        raise InputError(
            f"{int((counts == 0).sum())} samples have no shadow model on one of the sides.",
            "Each needs models that saw it (online attack only) and models that did not.",
            "Train more shadow models, each on a random half.",
        )
    mean = np.where(kept, scores, 0.0).sum(axis=0) / counts
    squares = np.where(kept, (scores - mean) ** 2, 0.0).sum(axis=0)
    freedom = int((counts - 1).sum())
    if freedom == 0:
        raise InputError(
            "No sample has two shadow models on one side.",
            "A variance needs at least two scores.",
            "Train at least two shadow models for each side, or use RMIA, which needs one.",
        )
    pooled = squares.sum() / freedom
    if pooled <= np.finfo(np.float64).tiny:
        raise InputError(
            "The shadow models all give the same scores.",
            "The scores of no sample vary from model to model.",
            "Train the shadow models with different seeds, or choose another score.",
        )
    chosen = variance or ("sample" if counts.min() >= PER_SAMPLE else "global")
    if chosen == "global":
        return Gaussians(mean, np.full(mean.shape, np.sqrt(pooled)))
    if counts.min() < 2:
        raise InputError(
            "Some samples have only one shadow model on a side.",
            "A variance needs at least two scores.",
            'Use variance="global", or train more shadow models.',
        )
    own = np.sqrt(squares / (counts - 1))
    return Gaussians(mean, np.maximum(own, LEAST_SPREAD * np.sqrt(pooled)))


def online(
    target: ArrayLike, shadows: ArrayLike, seen: ArrayLike, *, variance: Variance | None = None
) -> Scores:
    """Return log N(φ | μ_in, σ_in²) − log N(φ | μ_out, σ_out²) of each sample (n,).

    Args:
        target: Scores φ (n,) of the model under audit.
        shadows: Scores (K, n) of the shadow models.
        seen: (K, n) whether the shadow model was trained on the sample; both kinds are needed.
        variance: See :func:`fit`.

    Raises:
        InputError: If shapes do not fit, or a sample lacks one kind of shadow model.
    """
    values, scores, saw = _checked_scores(target, shadows, seen)
    inside, outside = fit(scores, saw, variance), fit(scores, ~saw, variance)
    return inside.log_density(values) - outside.log_density(values)


def offline(
    target: ArrayLike, shadows: ArrayLike, seen: ArrayLike | None = None, *, variance: Variance | None = None
) -> Scores:
    """Return z = (φ − μ_out) / σ_out of each sample (n,); the paper's score is Φ(z), with the same order.

    Args:
        target: Scores φ (n,), higher means "member".
        shadows: Scores (K, n).
        seen: (K, n) whether the model was trained on the sample; such scores are left out. None: none was.
        variance: See :func:`fit`.

    Raises:
        InputError: If shapes do not fit, or a sample has no shadow model that never saw it.
    """
    values, scores, saw = _checked_scores(target, shadows, seen)
    outside = fit(scores, ~saw, variance)
    return np.asarray((values - outside.mean) / outside.deviation, dtype=np.float64)


def _checked_scores(
    target: ArrayLike, shadows: ArrayLike, seen: ArrayLike | None
) -> tuple[Scores, Scores, NDArray[np.bool_]]:
    values, scores = numbers(target, "the model"), numbers(shadows, "the shadow models", dimensions=2)
    same_columns([values, scores], "model and shadow models")
    return values, scores, mask(seen, scores.shape, "whether the model saw it", default=False)
