# SPDX-License-Identifier: Apache-2.0
"""Metrics of a classifier by group, as pure functions of counts.

Definitions, for a class k against the rest, as Hardt, Price & Srebro 2016 ("Equality of Opportunity in
Supervised Learning") and Agarwal et al. 2018 have them: *selection rate* P(Ŷ=k | group), *recall* (true
positive rate) P(Ŷ=k | Y=k, group), *false positive rate* P(Ŷ=k | Y≠k, group). The *demographic parity
difference* is the largest difference of selection rates between two groups; the *equalised odds difference*
is the larger of the differences of recall and of false positive rate. With several classes, the largest value
over classes is taken. With two classes they equal those of the library fairlearn, for either positive class.

An undefined rate (with denominator 0) is NaN, and is left out of differences.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """(Weighted) numbers of samples by G groups and K classes.

    Attributes:
        truth: (G, K) samples of the class.
        predicted: (G, K) samples predicted as the class.
        hits: (G, K) samples of the class that are predicted as it.
    """

    truth: Numbers
    predicted: Numbers
    hits: Numbers

    @property
    def total(self) -> Numbers:
        """Number of samples of each group (G,)."""
        return np.asarray(self.truth.sum(1))

    def of(self, groups: list[int]) -> Counts:
        """Return the counts of the given groups."""
        return Counts(self.truth[groups], self.predicted[groups], self.hits[groups])

    @property
    def pooled(self) -> Counts:
        """The counts of all groups together."""
        return Counts(*(part.sum(0, keepdims=True) for part in (self.truth, self.predicted, self.hits)))


def count(
    truth: Indices,
    predicted: Indices,
    group: Indices,
    groups: int,
    classes: int,
    weights: Numbers | None = None,
) -> Counts:
    """Return the counts of samples by group and class.

    Args:
        truth: (N,) true classes.
        predicted: (N,) predicted classes.
        group: (N,) group numbers.
        groups: G.
        classes: K.
        weights: (N,) multiplicity of each sample; None: 1.
    """
    once = np.ones(len(truth)) if weights is None else weights

    def table(of: Indices, part: Numbers) -> Numbers:
        flat = np.bincount(group * classes + of, weights=part, minlength=groups * classes)
        return np.asarray(flat, dtype=np.float64).reshape(groups, classes)

    return Counts(table(truth, once), table(predicted, once), table(truth, once * (truth == predicted)))


def confusion(
    truth: Indices, predicted: Indices, group: Indices, groups: int, classes: int
) -> NDArray[np.int64]:
    """Return the confusion matrix of each group (G, K, K): true classes in rows, predicted in columns."""
    flat = np.bincount((group * classes + truth) * classes + predicted, minlength=groups * classes**2)
    return flat.reshape(groups, classes, classes)


def accuracy(counts: Counts) -> Numbers:
    """Return the accuracy of each group (G,)."""
    return _rate(counts.hits.sum(1), counts.total)


def recall(counts: Counts) -> Numbers:
    """Return the recall of each group and class (G, K)."""
    return _rate(counts.hits, counts.truth)


def precision(counts: Counts) -> Numbers:
    """Return the precision of each group and class (G, K)."""
    return _rate(counts.hits, counts.predicted)


def selection_rate(counts: Counts) -> Numbers:
    """Return the selection rate of each group and class (G, K)."""
    return _rate(counts.predicted, counts.total[:, None])


def false_positive_rate(counts: Counts) -> Numbers:
    """Return the false positive rate of each group and class (G, K)."""
    return _rate(counts.predicted - counts.hits, counts.total[:, None] - counts.truth)


def mean_over_classes(rates: Numbers) -> Numbers:
    """Return the mean of rates (G, K) over the classes with a defined rate (macro average) (G,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty group has no mean
        return np.asarray(np.nanmean(rates, axis=1))


def gap(values: Numbers) -> float:
    """Return the difference between largest and smallest value (G,); NaN if fewer than two are known."""
    known = values[~np.isnan(values)]
    return float(known.max() - known.min()) if len(known) > 1 else float("nan")


def demographic_parity_difference(counts: Counts) -> float:
    """Return the largest difference of selection rates; see the module."""
    return _largest(selection_rate(counts))


def equalised_odds_difference(counts: Counts) -> float:
    """Return the largest difference of recall or false positive rate; see the module."""
    return _most([_largest(recall(counts)), _largest(false_positive_rate(counts))])


def _largest(rates: Numbers) -> float:
    """Return the largest gap of rates (G, K) over the classes."""
    return _most([gap(column) for column in rates.T])


def _most(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return max(known) if known else float("nan")


def _rate(part: Numbers, whole: Numbers) -> Numbers:
    whole = np.broadcast_to(whole, part.shape)
    rate: Numbers = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return rate
