# SPDX-License-Identifier: Apache-2.0
"""KLoM: KL divergence of margins between retrained and unlearned models, by sample.

Georgiev et al. 2024, "Attribute-to-Delete: Machine Unlearning via Datamodel Matching": KL(retrained ‖
unlearned) of the distribution of a sample's margin over models. The paper estimates it from histograms of
about a hundred models. With few models, the histograms of two *equal* distributions hardly overlap, and the
estimate is biased: 3.8 at 16 models. Below about 100 models, use the Gaussian KL, and always report its null,
between two halves of the retrained models (:mod:`expunge.audits.distances.null`): at 4 models its median is
0.5, its 95 % quantile 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from expunge.audits.input_checks import numbers, same_columns
from expunge.audits.scores import Scores
from expunge.errors import InputError

BINS = 20
SMALLEST = 1e-5
BOUND = 100.0
FEW = 100
"""Number of models per side below which the histogram estimate is too biased."""


def klom(retrained: ArrayLike, unlearned: ArrayLike) -> Scores:
    """Return the KL divergence of histograms for each sample (n,).

    The histograms have 20 equal bins over the range of both sides, with margins clipped to ±100, as in the
    authors' benchmark. A bin without unlearned models gets the share 10⁻⁵. So the maximum is log(10⁵) = 11.5;
    it means "no overlap" and is not a distance.

    Args:
        retrained: Margins (N, n) of models that never saw the forget set.
        unlearned: Margins (M, n).

    Raises:
        InputError: If margins are missing or not finite, or shapes do not fit.
    """
    p, q = _checked(retrained, unlearned, 1)
    p, q = np.clip(p, -BOUND, BOUND), np.clip(q, -BOUND, BOUND)
    low, high = np.minimum(p.min(axis=0), q.min(axis=0)), np.maximum(p.max(axis=0), q.max(axis=0))
    width = np.where(high > low, high - low, 1.0)
    shares = [_histogram(values, low, width) for values in (p, q)]
    kept = shares[0] > 0
    ratio = np.where(kept, shares[0], 1.0) / np.where(kept, np.maximum(shares[1], SMALLEST), 1.0)
    return np.asarray((shares[0] * np.log(ratio)).sum(axis=0), dtype=np.float64)


def gaussian_klom(retrained: ArrayLike, unlearned: ArrayLike) -> Scores:
    """Return the KL divergence between Gaussians fitted to both sides, for each sample (n,).

    Args:
        retrained: Margins (N, n), N ≥ 2.
        unlearned: Margins (M, n), M ≥ 2.

    Raises:
        InputError: As :func:`klom`, or if the margins of a sample are constant on one side.
    """
    p, q = _checked(retrained, unlearned, 2)
    deviations = p.std(axis=0, ddof=1), q.std(axis=0, ddof=1)
    flat = int(((deviations[0] == 0) | (deviations[1] == 0)).sum())
    if flat:
        raise InputError(
            f"The margins of {flat} samples are the same in all models of a side.",
            "No Gaussian can be fitted to them.",
            "Train the models with different seeds, or leave those samples out and say so.",
        )
    return gaussian_kl(p.mean(axis=0), deviations[0], q.mean(axis=0), deviations[1])


def gaussian_kl(
    mean_p: ArrayLike, deviation_p: ArrayLike, mean_q: ArrayLike, deviation_q: ArrayLike
) -> Scores:
    """Return KL(N(mean_p, deviation_p²) ‖ N(mean_q, deviation_q²)), elementwise."""
    mp, sp, mq, sq = (np.asarray(v, dtype=np.float64) for v in (mean_p, deviation_p, mean_q, deviation_q))
    found = np.log(sq / sp) + (sp**2 + (mp - mq) ** 2) / (2 * sq**2) - 0.5
    return np.asarray(found, dtype=np.float64)


def _checked(retrained: ArrayLike, unlearned: ArrayLike, least: int) -> tuple[Scores, Scores]:
    p = numbers(retrained, "the retrained models", dimensions=2, least=least)
    q = numbers(unlearned, "the unlearned models", dimensions=2, least=least)
    same_columns([p, q], "retrained and unlearned models")
    return p, q


def _histogram(values: Scores, low: Scores, width: Scores) -> Scores:
    """Return the share of models in each bin (BINS, n); the last bin includes its upper edge."""
    bins = np.minimum((values - low) / width * BINS, BINS - 1).astype(np.int64)
    return np.stack([(bins == b).mean(axis=0) for b in range(BINS)])
