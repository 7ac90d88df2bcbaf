# SPDX-License-Identifier: Apache-2.0
"""Label errors of a detection data set: overlooked, misplaced, swapped and spurious boxes.

With the similarity of a labelled box b and a detection d, centres c in pixels of the picture as the model
sees it, and p_d the confidence of d::

    s(b, d) = α·IoU(b, d) + (1 − α)·exp(−γ·‖c_b − c_d‖)

each box gets qualities in 0–1, low where its label is doubtful:

* ``overlooked``, of a detection that overlaps no labelled box: 1 − p_d·(1 − max s) over the labelled boxes of
  its class (max s = 0 where there is none);
* ``misplaced``, of a labelled box: 1 − p_d·(1 − s) of the detection of its class that overlaps it with the
  greatest p_d·s; 1 where none overlaps it;
* ``swapped``, of a labelled box: 1 − max p_d·s over the detections of other classes;
* ``spurious``, of a labelled box: the greatest p_d among detections of any class that overlap it with an IoU
  of at least 0.5; 0 where there is none.

Of detections that overlap with an IoU of at least 0.5, only the most confident counts, whatever their
classes: two detections of different classes at one place show an uncertain detector, not a wrong label.

The qualities q of a picture's boxes are pooled by a soft minimum, Σ q·w with w = softmax((1 − q)/τ). The four
values of a picture are pooled by their geometric mean. The functions return the doubt, 1 − quality.

Reference: Tkachenko, Thyagarajan and Mueller, *ObjectLab: Automated Diagnosis of Mislabeled Images in Object
Detection Data*, ICML workshop on data-centric machine learning research, 2023 (overlooked, badly located and
swapped; α, γ and τ are those of its authors' library).

Differences: ObjectLab uses only detections above fixed confidence thresholds (0.95 and 0.5), which a small
detector never reaches; here the confidence is a weight instead, and overlapping detections are suppressed.
Where all detections have confidence 1, the first three kinds are ObjectLab's (tested against cleanlab).
ObjectLab has no ``spurious``: it does not score a labelled box without a detection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expunge.tasks.boxes import Numbers, PictureBoxes, box_overlap

KINDS = ("overlooked", "misplaced", "swapped", "spurious")
ALPHA, GAMMA, TEMPERATURE = 0.9, 0.1, 0.1
FOUND = 0.5
CONFIDENCE = 0.01
"""Detections of lower confidence are ignored."""
TINY = 1e-9


def similarity(boxes: Numbers, others: Numbers) -> Numbers:
    """Return the similarity s (n, m) of boxes (n, 4) and (m, 4), xyxy in pixels."""
    centres = [(part[:, :2] + part[:, 2:]) / 2 for part in (boxes, others)]
    distances = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=2)
    similarities: Numbers = ALPHA * box_overlap(boxes, others) + (1 - ALPHA) * np.exp(-GAMMA * distances)
    return similarities


def suppress_overlapping(picture: PictureBoxes) -> PictureBoxes:
    """Return the picture without the detections that overlap a more confident one of any class."""
    p = picture
    overlaps = box_overlap(p.found, p.found) >= FOUND
    keep = np.ones(len(p.scores), dtype=bool)
    for j in np.argsort(-p.scores, kind="stable"):
        if keep[j]:
            keep &= ~(overlaps[j] & (p.scores < p.scores[j]))
    return PictureBoxes(p.boxes, p.classes, p.found[keep], p.scores[keep], p.said[keep])


def qualities(picture: PictureBoxes) -> dict[str, Numbers]:
    """Return the qualities of a picture's boxes, by kind (see the module)."""
    p = picture
    overlaps = box_overlap(p.boxes, p.found)
    similarities = similarity(p.boxes, p.found)
    same_class = p.classes[:, None] == p.said[None]
    unmatched = ~(overlaps > 0).any(0)
    nearest = np.where(same_class, similarities, 0.0).max(0, initial=0.0)
    support = np.where(same_class & (overlaps > 0), p.scores[None] * similarities, -1.0)
    misplaced = np.ones(len(p.boxes))
    if support.size:
        best, rows = support.argmax(1), np.arange(len(p.boxes))
        matched = support[rows, best] >= 0
        misplaced = np.where(matched, 1 - p.scores[best] * (1 - similarities[rows, best]), 1.0)
    return {
        "overlooked": (1 - p.scores * (1 - nearest))[unmatched],
        "misplaced": misplaced,
        "swapped": 1 - np.where(same_class, 0.0, p.scores[None] * similarities).max(1, initial=0.0),
        "spurious": np.where(overlaps >= FOUND, p.scores[None], 0.0).max(1, initial=0.0),
    }


def softmin(values: Numbers, temperature: float = TEMPERATURE) -> float:
    """Return the soft minimum of some qualities; 1 for none."""
    if not len(values):
        return 1.0
    weights = np.exp((values.min() - values) / temperature)
    return float((values * weights).sum() / weights.sum())


def label_doubt(pictures: Sequence[PictureBoxes]) -> Numbers:
    """Return the doubt about every picture's labels by kind (n, 4), in 0–1 and in the order of ``KINDS``."""
    doubt = [
        [1 - softmin(values) for values in qualities(suppress_overlapping(picture)).values()]
        for picture in pictures
    ]
    return np.array(doubt).reshape(len(pictures), len(KINDS))


def combine_kinds(by_kind: Numbers) -> Numbers:
    """Return the doubt about every picture's labels (n,), from the doubt by kind (n, K)."""
    doubt: Numbers = 1 - np.exp(np.log(np.maximum(1 - by_kind, TINY)).mean(1))
    return doubt
