# SPDX-License-Identifier: Apache-2.0
"""What a model said of grouped samples, and the figures that follow from it, however samples are weighted.

A reading knows no group's name and no person: only numbers of groups. ``group`` is asked for with every
figure, so that the same reading answers for groups that were shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from expunge.bias import metrics
from expunge.bias.boxes import Matches, found_share, mean_average_precision
from expunge.bias.calibration import calibration_error
from expunge.bias.metrics import Indices, Numbers


class Reading(Protocol):
    """What figures are made of. G: groups, N: images, T: things that are in groups (images or objects)."""

    @property
    def main(self) -> str:
        """The figure by which groups are compared; higher is better."""
        ...

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the columns of ``table``; the first is the main figure."""
        ...

    @property
    def slow(self) -> tuple[str, ...]:
        """Names of the columns of ``slow_table``."""
        ...

    @property
    def spread(self) -> tuple[str, ...]:
        """Names of the entries of ``differences``; the first is the gap of the main figure."""
        ...

    def table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return (G, figures) for groups (T,) and weights of the images (N,)."""
        ...

    def slow_table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return (G, slow)."""
        ...

    def differences(self, group: Indices, compared: Sequence[int], weights: Numbers | None = None) -> Numbers:
        """Return (spread,) between the groups that are compared."""
        ...


@dataclass(frozen=True)
class Classified:
    """Of N images: the true class, the one predicted, and how sure the model was of it.

    Attributes:
        truth: (N,) classes.
        said: (N,) predicted classes.
        confidence: (N,) probability of the predicted class.
        classes: K.
    """

    truth: Indices
    said: Indices
    confidence: Numbers
    classes: int
    main: str = "accuracy"
    figures: tuple[str, ...] = ("accuracy", "recall", "precision", "calibration_error")
    slow: tuple[str, ...] = ()
    spread: tuple[str, ...] = ("gap", "equalised_odds_difference", "demographic_parity_difference")

    @classmethod
    def of(cls, truth: Indices, probabilities: Numbers) -> Classified:
        """Make it from true classes (N,) and probabilities (N, K)."""
        return cls(truth, probabilities.argmax(1), probabilities.max(1), probabilities.shape[1])

    def counts(self, group: Indices, groups: int, weights: Numbers | None = None) -> metrics.Counts:
        """Return the counts of each group."""
        return metrics.count(self.truth, self.said, group, groups, self.classes, weights)

    def table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return accuracy, recall and precision (means over classes) and calibration error (G, 4)."""
        counts = self.counts(group, groups, weights)
        right = (self.truth == self.said).astype(np.float64)
        columns = [
            metrics.accuracy(counts),
            metrics.mean_over_classes(metrics.recall(counts)),
            metrics.mean_over_classes(metrics.precision(counts)),
            calibration_error(self.confidence, right, group, groups, weights=weights),
        ]
        return np.stack(columns, axis=1)

    def slow_table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return nothing (G, 0)."""
        return np.empty((groups, 0))

    def differences(self, group: Indices, compared: Sequence[int], weights: Numbers | None = None) -> Numbers:
        """Return the gap of accuracy, and the differences of equalised odds and demographic parity (3,)."""
        counts = self.counts(group, max([int(group.max(initial=0)), *compared]) + 1, weights)
        few = counts.of(list(compared))
        return np.array(
            [
                metrics.gap(metrics.accuracy(few)),
                metrics.equalised_odds_difference(few),
                metrics.demographic_parity_difference(few),
            ]
        )


@dataclass(frozen=True)
class Detected:
    """Of N images with their objects: which were found.

    Attributes:
        matches: Detections and objects.
        images: N.
        by_object: Whether the objects are in groups, or the images.
        confidence: From which detections count for recall and precision.
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
        """Recall; by image precision, too: nobody knows whose a false alarm is."""
        return ("recall",) if self.by_object else ("recall", "precision")

    def table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return recall and, by image, precision (G, 1 or 2)."""
        own = group if self.by_object else group[self.matches.object_picture]
        recall = found_share(self.matches, own, groups, self.confidence, weights)
        if self.by_object:
            return recall[:, None]
        sure = self.matches.scores >= self.confidence
        where = self.matches.picture[sure]
        once = np.ones(len(where)) if weights is None else weights[where]
        whole = np.bincount(group[where], weights=once, minlength=groups)
        right = np.bincount(group[where], weights=once * (self.matches.taken[sure, 0] >= 0), minlength=groups)
        precision = np.divide(right, whole, out=np.full(groups, np.nan), where=whole > 0)
        return np.stack([recall, precision], axis=1)

    def slow_table(self, group: Indices, groups: int, weights: Numbers | None = None) -> Numbers:
        """Return mAP50 and mAP50-95 (G, 2); false alarms are those in images with an object of the group."""
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
        return np.array([metrics.gap(self.table(group, groups, weights)[list(compared), 0])])
