# SPDX-License-Identifier: Apache-2.0
"""Labelled and detected boxes of one image, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class PictureBoxes:
    """The labelled and the detected boxes of an image: xyxy in pixels of one image size.

    Attributes:
        boxes: (n, 4) labelled boxes.
        classes: (n,) labelled classes.
        found: (m, 4) detected boxes.
        scores: (m,) confidences of the detections.
        said: (m,) classes of the detections.
    """

    boxes: Numbers
    classes: Indices
    found: Numbers
    scores: Numbers
    said: Indices


def box_overlap(boxes: Numbers, others: Numbers) -> Numbers:
    """Return the intersection over union (n, m) of boxes (n, 4) and (m, 4), xyxy."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(2)
    areas = [np.prod(part[:, 2:] - part[:, :2], axis=1) for part in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - intersection
    ratio: Numbers = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return ratio
