# SPDX-License-Identifier: Apache-2.0
"""Where a detector contradicts the boxes of a picture: boxes that seem to be missing, or to be spurious.

* ``missing``: the highest confidence among detections that overlap no labelled box, of any class, with an IoU
  of 0.5. An annotator who left out a box leaves a confident detection without one.
* ``spurious``: 1 − confidence of the labelled box that is found worst: the confidence of the best detection
  of its class that overlaps it with an IoU of 0.5, 0 where there is none. A box of a wrong class or in a
  wrong place is among them.

A picture without detections misses nothing; one without boxes has no spurious one.

After Tkachenko, Thyagarajan and Mueller, *ObjectLab: Automated Diagnosis of Mislabeled Images in Object
Detection Data*, ICML workshop on data-centric machine learning research, 2023 (overlooked, badly located and
swapped boxes). Differences: the worst box counts instead of a soft minimum, and the last two are one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import box_iou

CONFIDENCE = 0.01
IOU = 0.5


def doubts(
    found: Sequence[torch.Tensor], truth: torch.Tensor, classes: torch.Tensor, image: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return ``missing`` and ``spurious`` (B,), in 0–1.

    Args:
        found: For each of B pictures its detections (n, 6): xyxy, confidence, class.
        truth: Labelled boxes of all pictures, xyxy, in the same units (m, 4).
        classes: Their classes (m,).
        image: The picture that each is in (m,).
    """
    missing, spurious = [], []
    for i, rows in enumerate(found):
        own = image == i
        overlap = box_iou(rows[:, :4], truth[own]) >= IOU
        confidence = rows[:, 4]
        alone = confidence[~overlap.any(1)]
        missing.append(alone.amax() if len(alone) else confidence.new_zeros(()))
        same = overlap & (rows[:, 5:6] == classes[own][None])
        sure = torch.cat([confidence[:, None] * same, confidence.new_zeros((1, same.shape[1]))]).amax(0)
        spurious.append(1 - sure.amin() if len(sure) else confidence.new_zeros(()))
    return {"missing": torch.stack(missing), "spurious": torch.stack(spurious)}
