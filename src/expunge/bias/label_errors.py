# SPDX-License-Identifier: Apache-2.0
"""Label errors by confidence in predictions that never saw the label: confident learning.

With p̂(y; x) from a model that was not trained on x, and its given label ỹ:

* self-confidence p̂(ỹ; x), and normalised margin (1 + p̂(ỹ; x) − max_{j≠ỹ} p̂(j; x)) / 2: low where the label
  is doubtful;
* thresholds t_j: the mean self-confidence of the samples labelled j;
* confident joint C[i, j]: how many samples labelled i are confidently a j: p̂(j; x) ≥ t_j, and of several such
  j the most likely one. What lies off its diagonal are the label issues.

Reference: Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in Dataset Labels*, JAIR
2021, eq. 1 and 2; normalised margin: section 4 there, scaled to 0–1.

Differences: a label that is the most likely class anyway is no issue, also where it misses its threshold.
The joint is not calibrated: only which samples lie off the diagonal is used. (The library cleanlab takes the
most likely class of all where several are confident, the paper and this file the most likely of those.)

Out-of-sample predictions come from cross-validation of a softmax head on the model's features
(:func:`cross_validated`), with all samples of a subject in one fold, or from shards that never saw the
sample. The features themselves may have been learnt with the label in sight, which hides some errors; shards
have not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.bias.gradients import Floats
from expunge.bias.softmax import SoftmaxHead, fit_head
from expunge.errors import InputError

FOLDS = 5
Labels = NDArray[np.int64]


def self_confidence(labels: Labels, probabilities: Floats) -> Floats:
    """Return p̂(ỹ; x) (n,); low means doubtful.

    Args:
        labels: ỹ (n,), from 0.
        probabilities: p̂ (n, C).

    Raises:
        InputError: If they do not fit together, or a probability is not a number.
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
    """Return t_j (C,): the mean self-confidence of each class; 1 for a class that no sample is labelled."""
    own = self_confidence(labels, probabilities)
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


def confident_class(labels: Labels, probabilities: Floats) -> Labels:
    """Return the class that each sample confidently is (n,); −1 where it is confidently none."""
    above = probabilities >= thresholds(labels, probabilities) - 1e-6
    best = np.where(above, probabilities, -1.0).argmax(1)
    return np.where(above.any(1), best, -1)


def confident_joint(labels: Labels, probabilities: Floats) -> Labels:
    """Return C (C, C): samples by given and confident class; those that are confidently none are left out."""
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
        groups: What may not be torn apart: the subject of each sample; None: each for itself.
        classes: C; None: as many as there are labels.
        folds: Into how many parts; fewer where there are fewer groups.
        seed: Of the division.

    Raises:
        InputError: If there are fewer than two groups, or something is not a finite number.
    """
    if not np.isfinite(features).all():
        raise InputError(
            "A feature is not a finite number.",
            "With such a sample no head can be fitted.",
            "Look for weights or pictures that hold NaN or infinity.",
        )
    own = np.arange(len(labels)) if groups is None else np.array(groups)
    _, numbers = np.unique(own, return_inverse=True)
    parts = int(numbers.max()) + 1 if len(numbers) else 0
    if parts < 2:
        raise InputError(
            "There is nothing to cross-validate.",
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
    """Refuse labels and probabilities that do not fit together.

    Raises:
        InputError: With what is wrong.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or len(labels) != len(probabilities):
        raise InputError(
            "Labels and probabilities do not fit together.",
            f"Their shapes are {labels.shape} and {probabilities.shape}.",
            "Give a row of at least two classes for each label.",
        )
    if not np.isfinite(probabilities).all():
        raise InputError(
            "A probability is not a finite number.", "Nothing can be ranked with it.", "Check the model."
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < probabilities.shape[1]):
        raise InputError(
            "A label is not one of the classes.",
            f"Labels go from {labels.min()} to {labels.max()} of {probabilities.shape[1]} classes.",
            "Use the model that was trained for these labels.",
        )
