# SPDX-License-Identifier: Apache-2.0
"""Find label errors by confident learning, from held-out predictions.

With p̂(y; x) from a model that was not trained on x, and its given label ỹ:

* self-confidence p̂(ỹ; x), and normalised margin (1 + p̂(ỹ; x) − max_{j≠ỹ} p̂(j; x)) / 2: low where the label
  is doubtful;
* thresholds t_j: the mean self-confidence of the samples labelled j;
* confident joint C[i, j]: the number of samples with label i that are confidently class j: p̂(j; x) ≥ t_j, and
  of several such j the most likely one. Samples off its diagonal are label issues.

Reference: Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in Dataset Labels*, JAIR
2021, eq. 1 and 2; normalised margin: section 4 there, scaled to 0–1.

Differences: a label that is the most likely class is no issue, even if it misses its threshold. The joint is
not calibrated, since only the samples off the diagonal are used. (If several classes are confident, the
library cleanlab takes the most likely class of all, the paper and this module the most likely of those.)

Out-of-sample predictions come from cross-validation of a softmax head on the model's features
(:func:`cross_validated`), with all samples of a subject in one fold, or from shards that never saw the
sample. In the first case the features may have been learnt from the label, which hides some errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.bias.attribution.gradients import Floats
from expunge.bias.attribution.softmax import SoftmaxHead, fit_head
from expunge.errors import InputError

FOLDS = 5
Labels = NDArray[np.int64]


def self_confidence(labels: Labels, probabilities: Floats) -> Floats:
    """Return p̂(ỹ; x) (n,); low means doubtful.

    Args:
        labels: ỹ (n,), from 0.
        probabilities: p̂ (n, C).

    Raises:
        InputError: If they do not fit together, or a probability is not finite.
    """
    check(labels, probabilities)
    found: Floats = probabilities[np.arange(len(labels)), labels]
    return found


def normalised_margin(labels: Labels, probabilities: Floats) -> Floats:
    """Return (1 + p̂(ỹ) − max_{j≠ỹ} p̂(j)) / 2 (n,); low means doubtful. Arguments as above."""
    own = self_confidence(labels, probabilities)
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    margin: Floats = (own - others.max(1) + 1) / 2
    return margin


def thresholds(labels: Labels, probabilities: Floats) -> Floats:
    """Return t_j (C,): the mean self-confidence of each class; 1 for a class without samples."""
    own = self_confidence(labels, probabilities)
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


def confident_class(labels: Labels, probabilities: Floats) -> Labels:
    """Return the confident class of each sample (n,); −1: none."""
    above = probabilities >= thresholds(labels, probabilities) - 1e-6
    best = np.where(above, probabilities, -1.0).argmax(1)
    return np.where(above.any(1), best, -1)


def confident_joint(labels: Labels, probabilities: Floats) -> Labels:
    """Return C (C, C): numbers of samples by label and confident class; samples without one are left out."""
    found, classes = confident_class(labels, probabilities), probabilities.shape[1]
    known = found >= 0
    joint = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(joint, (labels[known], found[known]), 1)
    return joint


def label_issues(labels: Labels, probabilities: Floats) -> NDArray[np.bool_]:
    """Return whether each sample lies off the diagonal of the confident joint (n,)."""
    found = confident_class(labels, probabilities)
    issue: NDArray[np.bool_] = (found >= 0) & (found != labels) & (probabilities.argmax(1) != labels)
    return issue


def cross_validated(
    features: Floats,
    labels: Labels,
    groups: Sequence[str | int] | None = None,
    *,
    classes: int | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Floats:
    """Return out-of-sample probabilities (n, C) of a softmax head on features.

    Args:
        features: (n, D).
        labels: (n,), from 0.
        groups: Subject of each sample, kept in one fold; None: each sample is its own group.
        classes: C; None: the number of labels.
        folds: Number of folds; fewer if there are fewer groups.
        seed: Seed of the division.

    Raises:
        InputError: If there are fewer than two groups, or a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise InputError(
            "A feature is not a finite number.",
            "No head can be fitted to such a sample.",
            "Check weights and images for NaN and infinity.",
        )
    own = np.arange(len(labels)) if groups is None else np.array(groups)
    _, numbers = np.unique(own, return_inverse=True)
    parts = int(numbers.max()) + 1 if len(numbers) else 0
    if parts < 2:
        raise InputError(
            "Cross-validation is not possible.",
            f"The samples belong to {parts} subject(s); a fold needs samples of others to learn from.",
            "Use data of more subjects.",
        )
    order = np.random.default_rng(seed).permutation(parts)
    fold_of = np.empty(parts, dtype=np.int64)
    fold_of[order] = np.arange(parts) % min(folds, parts)
    fold = fold_of[numbers]
    count = int(labels.max()) + 1 if classes is None else classes
    found = np.zeros((len(labels), count))
    for k in range(min(folds, parts)):
        out = fold == k
        head: SoftmaxHead = fit_head(features[~out], labels[~out], count)
        found[out] = head.probabilities(features[out])
    return found


def check(labels: Labels, probabilities: Floats) -> None:
    """Raise InputError if labels and probabilities do not fit together.

    Raises:
        InputError: If shapes do not fit, a probability is not finite, or a label is not a class.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(labels) != len(probabilities):
        raise InputError(
            "Labels and probabilities do not fit together.",
            f"Their shapes are {labels.shape} and {probabilities.shape}.",
            "Give a row of at least two classes for each label.",
        )
    if not np.isfinite(probabilities).all():
        raise InputError("A probability is not a finite number.", "It cannot be ranked.", "Check the model.")
    if len(labels) and not (labels.min() >= 0 and labels.max() < probabilities.shape[1]):
        raise InputError(
            "A label is not one of the classes.",
            f"Labels go from {labels.min()} to {labels.max()} of {probabilities.shape[1]} classes.",
            "Use the model that was trained for these labels.",
        )
