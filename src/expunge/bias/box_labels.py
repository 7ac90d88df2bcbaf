# SPDX-License-Identifier: Apache-2.0
"""Which boxes of a picture a detector doubts: overlooked, badly placed, swapped and spurious ones.

With the similarity of a labelled box b and a detection d, centres c in pixels of the picture as the model
sees it, and p_d the confidence of d::

    s(b, d) = α·IoU(b, d) + (1 − α)·exp(−γ·‖c_b − c_d‖)

the quality of a box is, in 0–1, low where it is doubtful:

* ``overlooked``, of a detection that touches no labelled box: 1 − p_d·(1 − max s) over the labelled boxes of
  its class (max s = 0 where there is none);
* ``misplaced``, of a labelled box: 1 − p_d·(1 − s) for that detection of its class that touches it with the
  greatest p_d·s; 1 where none touches it;
* ``swapped``, of a labelled box: 1 − max p_d·s over the detections of other classes;
* ``spurious``, of a labelled box: the greatest p_d among detections of any class that overlap it with an IoU
  of 0.5; 0 where there is none.

Of detections that overlap by an IoU of 0.5, only the most confident speaks, whatever their classes: a
detector that is torn between two classes does not say that the label is the wrong one.

The qualities q of a picture's boxes are pooled by a soft minimum, Σ q·w with w = softmax((1 − q)/τ); the four
numbers of a picture by their geometric mean. What is returned is doubt, 1 − quality.

Reference: Tkachenko, Thyagarajan and Mueller, *ObjectLab: Automated Diagnosis of Mislabeled Images in Object
Detection Data*, ICML workshop on data-centric machine learning research, 2023 (overlooked, badly located and
swapped; α, γ and τ are those of its authors' library).

Differences: ObjectLab looks at detections above fixed thresholds of confidence (0.95 and 0.5), which a small
detector never reaches; here the confidence weighs instead, and overlapping detections are thinned out. Where
all detections are certain (p = 1), the first three are ObjectLab's (tested against cleanlab). It has no
``spurious``: of a box that nothing supports it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expunge.bias.boxes import Picture, overlap
from expunge.bias.metrics import Numbers

KINDS = ("overlooked", "misplaced", "swapped", "spurious")
ALPHA, GAMMA, TEMPERATURE = 0.9, 0.1, 0.1
FOUND = 0.5
CONFIDENCE = 0.01
"""Below it a detection counts for nothing."""
TINY = 1e-9


def similarity(boxes: Numbers, others: Numbers) -> Numbers:
    """Return s (n, m) of boxes (n, 4) and (m, 4), xyxy in pixels."""
    centres = [(part[:, :2] + part[:, 2:]) / 2 for part in (boxes, others)]
    apart = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=2)
    found: Numbers = ALPHA * overlap(boxes, others) + (1 - ALPHA) * np.exp(-GAMMA * apart)
    return found


def suppressed(picture: Picture) -> Picture:
    """Return the picture without detections that overlap a more confident one, of whatever class."""
    p = picture
    shared = overlap(p.found, p.found) >= FOUND
    keep = np.ones(len(p.scores), dtype=bool)
    for j in np.argsort(-p.scores, kind="stable"):
        if keep[j]:
            keep &= ~(shared[j] & (p.scores < p.scores[j]))
    return Picture(p.boxes, p.classes, p.found[keep], p.scores[keep], p.said[keep])


def qualities(picture: Picture) -> dict[str, Numbers]:
    """Return by kind the quality of every box that it speaks of; see the module."""
    p = picture
    touching = overlap(p.boxes, p.found)
    alike = similarity(p.boxes, p.found)
    same = p.classes[:, None] == p.said[None]
    alone = ~(touching > 0).any(0)
    near = np.where(same, alike, 0.0).max(0, initial=0.0)
    own = np.where(same & (touching > 0), p.scores[None] * alike, -1.0)
    misplaced = np.ones(len(p.boxes))
    if own.size:
        best, rows = own.argmax(1), np.arange(len(p.boxes))
        known = own[rows, best] >= 0
        misplaced = np.where(known, 1 - p.scores[best] * (1 - alike[rows, best]), 1.0)
    return {
        "overlooked": (1 - p.scores * (1 - near))[alone],
        "misplaced": misplaced,
        "swapped": 1 - np.where(same, 0.0, p.scores[None] * alike).max(1, initial=0.0),
        "spurious": np.where(touching >= FOUND, p.scores[None], 0.0).max(1, initial=0.0),
    }


def softmin(values: Numbers, temperature: float = TEMPERATURE) -> float:
    """Return the soft minimum of qualities; 1 of none."""
    if not len(values):
        return 1.0
    weights = np.exp((values.min() - values) / temperature)
    return float((values * weights).sum() / weights.sum())


def doubts(pictures: Sequence[Picture]) -> Numbers:
    """Return the doubt of every picture by kind (n, 4), in the order of ``KINDS``."""
    found = [
        [1 - softmin(values) for values in qualities(suppressed(picture)).values()] for picture in pictures
    ]
    return np.array(found).reshape(len(pictures), len(KINDS))


def combined(by_kind: Numbers) -> Numbers:
    """Return the doubt of every picture (n,), from that by kind (n, K)."""
    found: Numbers = 1 - np.exp(np.log(np.maximum(1 - by_kind, TINY)).mean(1))
    return found
