# SPDX-License-Identifier: Apache-2.0
"""Figures of a classifier by group: pure functions of counts.

Definitions, for a class k against the rest, as Hardt, Price & Srebro 2016 ("Equality of Opportunity in
Supervised Learning") and Agarwal et al. 2018 have them: *selection rate* P(Ŷ=k | group), *recall* (true
positive rate) P(Ŷ=k | Y=k, group), *false positive rate* P(Ŷ=k | Y≠k, group). The *demographic parity
difference* is the largest difference of selection rates between two groups; the *equalised odds difference*
the larger one of those of recall and of false positive rate; of several classes the largest. With two classes
they are those of the library fairlearn, whichever class is called positive.

What cannot be told (a rate of nothing) is NaN, and stays out of differences.
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
    """What happened to the samples of G groups and K classes; (weighted) numbers of samples.

    Attributes:
        truth: (G, K) of the class.
        said: (G, K) predicted to be of the class.
        hits: (G, K) both.
    """

    truth: Numbers
    said: Numbers
    hits: Numbers

    @property
    def total(self) -> Numbers:
        """(G,) samples of each group."""
        return np.asarray(self.truth.sum(1))

    def of(self, groups: list[int]) -> Counts:
        """Return the counts of some groups."""
        return Counts(self.truth[groups], self.said[groups], self.hits[groups])

    @property
    def pooled(self) -> Counts:
        """All groups as one."""
        return Counts(*(part.sum(0, keepdims=True) for part in (self.truth, self.said, self.hits)))


def count(
    truth: Indices, said: Indices, group: Indices, groups: int, classes: int, weights: Numbers | None = None
) -> Counts:
    """Count samples by group and class.

    Args:
        truth: (N,) classes.
        said: (N,) predicted classes.
        group: (N,) group numbers.
        groups: G.
        classes: K.
        weights: (N,) how often each sample counts; None: once.
    """
    once = np.ones(len(truth)) if weights is None else weights

    def table(of: Indices, part: Numbers) -> Numbers:
        flat = np.bincount(group * classes + of, weights=part, minlength=groups * classes)
        return np.asarray(flat, dtype=np.float64).reshape(groups, classes)

    return Counts(table(truth, once), table(said, once), table(truth, once * (truth == said)))


def confusion(truth: Indices, said: Indices, group: Indices, groups: int, classes: int) -> NDArray[np.int64]:
    """Return (G, K, K): in each group, how many samples of a class (rows) were called what (columns)."""
    flat = np.bincount((group * classes + truth) * classes + said, minlength=groups * classes**2)
    return flat.reshape(groups, classes, classes)


def accuracy(counts: Counts) -> Numbers:
    """Return (G,) the share of samples that are called what they are."""
    return _rate(counts.hits.sum(1), counts.total)


def recall(counts: Counts) -> Numbers:
    """Return (G, K)."""
    return _rate(counts.hits, counts.truth)


def precision(counts: Counts) -> Numbers:
    """Return (G, K)."""
    return _rate(counts.hits, counts.said)


def selection_rate(counts: Counts) -> Numbers:
    """Return (G, K)."""
    return _rate(counts.said, counts.total[:, None])


def false_positive_rate(counts: Counts) -> Numbers:
    """Return (G, K)."""
    return _rate(counts.said - counts.hits, counts.total[:, None] - counts.truth)


def mean_over_classes(rates: Numbers) -> Numbers:
    """Return (G,) the mean of (G, K) over the classes of which there is a rate (macro average)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a group of nothing has no mean
        return np.asarray(np.nanmean(rates, axis=1))


def gap(values: Numbers) -> float:
    """Return the difference between the best and the worst (G,); NaN where fewer than two are known."""
    known = values[~np.isnan(values)]
    return float(known.max() - known.min()) if len(known) > 1 else float("nan")


def demographic_parity_difference(counts: Counts) -> float:
    """Return the largest difference of selection rates; see the module."""
    return _largest(selection_rate(counts))


def equalised_odds_difference(counts: Counts) -> float:
    """Return the largest difference of recall or false positive rate; see the module."""
    return _most([_largest(recall(counts)), _largest(false_positive_rate(counts))])


def _largest(rates: Numbers) -> float:
    """The largest gap (G, K) over the classes."""
    return _most([gap(column) for column in rates.T])


def _most(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return max(known) if known else float("nan")


def _rate(part: Numbers, whole: Numbers) -> Numbers:
    whole = np.broadcast_to(whole, part.shape)
    rate: Numbers = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return rate
