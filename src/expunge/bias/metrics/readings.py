# SPDX-License-Identifier: Apache-2.0
"""A model's predictions on grouped samples, and the metrics that follow from them for given weights.

A reading has no names of groups or people. Group numbers are passed with each call, so that the same reading
serves for shuffled groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from expunge.bias.metrics import classification
from expunge.bias.metrics.calibration import calibration_error
from expunge.bias.metrics.classification import Indices, Numbers
from expunge.bias.metrics.detection import Matches, found_share, mean_average_precision


class Reading(Protocol):
    """Predictions of one model. G: groups, N: images, T: units in groups (images or objects)."""

    @property
    def main(self) -> str:
        """The metric by which groups are compared; higher is better."""
        ...

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the columns of ``table``; the first is the main metric."""
        ...

    @property
    def slow(self) -> tuple[str, ...]:
        """Names of the columns of ``slow_table``."""
        ...

    @property
    def spread(self) -> tuple[str, ...]:
        """Names of the entries of ``differences``; the first is the gap of the main metric."""
        ...

    def table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return the metrics (G, figures) for groups (T,) and weights of the images (N,)."""
        ...

    def slow_table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return the slow metrics (G, slow)."""
        ...

    def differences(self, group: Indices, compared: Sequence[int], weights: Numbers | None = None) -> Numbers:
        """Return the differences (spread,) between the compared groups."""
        ...


@dataclass(frozen=True)
class Classified:
    """Predictions of a classifier on N images.

    Attributes:
        truth: (N,) true classes.
        predicted: (N,) predicted classes.
        confidence: (N,) probability of the predicted class.
        classes: K.
    """

    truth: Indices
    predicted: Indices
    confidence: Numbers
    classes: int
    main: str = "accuracy"
    figures: tuple[str, ...] = ("accuracy", "recall", "precision", "calibration_error")
    slow: tuple[str, ...] = ()
    spread: tuple[str, ...] = ("gap", "equalised_odds_difference", "demographic_parity_difference")

    @classmethod
    def of(cls, truth: Indices, probabilities: Numbers) -> Classified:
        """Return the reading for true classes (N,) and probabilities (N, K)."""
        return cls(truth, probabilities.argmax(1), probabilities.max(1), probabilities.shape[1])

    def counts(self, group: Indices, groups: int, weights: Numbers | None = None) -> classification.Counts:
        """Return the counts of each group."""
        return classification.count(self.truth, self.predicted, group, groups, self.classes, weights)

    def table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return accuracy, recall and precision (means over classes) and calibration error (G, 4)."""
        counts = self.counts(group, groups, weights)
        right = (self.truth == self.predicted).astype(np.float64)
        columns = [
            classification.accuracy(counts),
            classification.mean_over_classes(classification.recall(counts)),
            classification.mean_over_classes(classification.precision(counts)),
            calibration_error(self.confidence, right, group, groups, weights=weights),
        ]
        return np.stack(columns, axis=1)

    def slow_table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return an empty table (G, 0)."""
        return np.empty((groups, 0))

    def differences(self, group: Indices, compared: Sequence[int], weights: Numbers | None = None) -> Numbers:
        """Return the gap of accuracy, and the differences of equalised odds and demographic parity (3,)."""
        counts = self.counts(group, max([int(group.max(initial=0)), *compared]) + 1, weights)
        few = counts.of(list(compared))
        return np.array(
            [
                classification.gap(classification.accuracy(few)),
                classification.equalised_odds_difference(few),
                classification.demographic_parity_difference(few),
            ]
        )


@dataclass(frozen=True)
class Detected:
    """Detections on N images.

    Attributes:
        matches: Detections and objects.
        images: N.
        by_object: Whether objects are grouped; else images.
        confidence: Minimum confidence of a detection for recall and precision.
    """

    matches: Matches
    images: int
    by_object: bool
    confidence: float
    main: str = "recall"
    slow: tuple[str, ...] = ("mAP50", "mAP50-95")
    spread: tuple[str, ...] = ("gap",)

    @property
    def figures(self) -> tuple[str, ...]:
        """Recall, and by image also precision: a false positive belongs to no object's group."""
        return ("recall",) if self.by_object else ("recall", "precision")

    def table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return recall and, by image, precision (G, 1 or 2)."""
        own = group if self.by_object else group[self.matches.object_picture]
        recall = found_share(self.matches, own, groups, self.confidence, weights)
        if self.by_object:
            return recall[:, None]
        confident = self.matches.scores >= self.confidence
        where = self.matches.picture[confident]
        once = np.ones(len(where)) if weights is None else weights[where]
        whole = np.bincount(group[where], weights=once, minlength=groups)
        right = np.bincount(
            group[where], weights=once * (self.matches.taken[confident, 0] >= 0), minlength=groups
        )
        precision = np.divide(right, whole, out=np.full(groups, np.nan), where=whole > 0)
        return np.stack([recall, precision], axis=1)

    def slow_table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return mAP50 and mAP50-95 (G, 2); false positives count in images with an object of the group."""
        found = []
        for g in range(groups):
            if self.by_object:
                objects = group == g
                pictures = np.zeros(self.images, dtype=bool)
                pictures[self.matches.object_picture[objects]] = True
            else:
                pictures = group == g
                objects = pictures[self.matches.object_picture]
            found.append(mean_average_precision(self.matches, objects, pictures, weights))
        return np.array(found).reshape(groups, 2)

    def differences(self, group: Indices, compared: Sequence[int], weights: Numbers | None = None) -> Numbers:
        """Return the gap of recall (1,)."""
        groups = max([int(group.max(initial=0)), *compared]) + 1
        return np.array([classification.gap(self.table(group, groups, weights)[list(compared), 0])])
