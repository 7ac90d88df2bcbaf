# SPDX-License-Identifier: Apache-2.0
"""Calibration error of a classifier, by group."""

from __future__ import annotations

import numpy as np

from expunge.bias.metrics.classification import Indices, Numbers

BINS = 15


def bin_of(confidence: Numbers, bins: int = BINS) -> Indices:
    """Return the bin (N,) of each confidence; bins include their upper end, the first also 0."""
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner, confidence).astype(np.int64)


def calibration_error(
    confidence: Numbers,
    correct: Numbers,
    group: Indices,
    groups: int,
    bins: int = BINS,
    weights: Numbers | None = None,
) -> Numbers:
    """Return the expected calibration error of each group (G,); NaN for an empty group.

    ECE = Σ_b n_b/n · |accuracy_b − confidence_b| (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", eq. 3), over the confidence of the predicted class. It is biased upwards for few samples: even
    a perfectly calibrated model has |·| > 0 in every bin. Do not compare groups of different sizes by it
    alone.

    Args:
        confidence: (N,) of the predicted class, 0–1.
        correct: (N,) whether the prediction is correct, 0 or 1.
        group: (N,) group numbers.
        groups: G.
        bins: Number of bins.
        weights: (N,) multiplicity of each sample; None: 1.
    """
    once = np.ones(len(confidence)) if weights is None else weights
    cell = group * bins + bin_of(confidence, bins)

    def total(part: Numbers) -> Numbers:
        flat = np.bincount(cell, weights=part, minlength=groups * bins)
        return np.asarray(flat, dtype=np.float64).reshape(groups, bins)

    size = total(once).sum(1)
    off = np.abs(total(once * correct) - total(once * confidence)).sum(1)
    found: Numbers = np.divide(off, size, out=np.full(groups, np.nan), where=size > 0)
    return found
