# SPDX-License-Identifier: AGPL-3.0-or-later
"""What tells a detector's training pictures from others: each head's loss and confidence at true boxes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torchvision.ops import box_iou

from expunge.tasks.yolo_boxes import corners, losses

IOU = 0.5


@torch.no_grad()
def signals(
    criterions: dict[str, Any], raw: dict[str, dict[str, torch.Tensor]], batch: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Return ``negative_loss.<head>`` and ``matched.<head>`` (B,) of every head; higher means "member".

    Args:
        criterions: A ``v8DetectionLoss`` for each head.
        raw: ``boxes``, ``scores`` and ``feats`` of each head.
        batch: See :func:`expunge.tasks.yolo_boxes.losses`.
    """
    found = {}
    for head, criterion in criterions.items():
        found[f"negative_loss.{head}"] = -losses(criterion, raw[head], batch)
        found[f"matched.{head}"] = matched(criterion, raw[head], batch)
    return found


def matched(criterion: Any, raw: dict[str, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
    """Return how sure one head is of what is in each picture (B,), in 0–1; no threshold, no suppression.

    For every true box: the highest confidence in its class among the anchors whose box overlaps it with an
    IoU of at least 0.5, 0 where none does; the mean over the boxes. A picture without boxes is known if
    nothing is found in it: 1 − the highest confidence.

    Args:
        criterion: A ``v8DetectionLoss``, which decodes.
        raw: ``boxes`` (B, 4R, A), ``scores`` (B, C, A) and ``feats`` of the head.
        batch: ``batch_idx`` (n,), ``cls`` (n, 1) and ``bboxes`` (n, 4), xywh in 0–1.
    """
    from ultralytics.utils.tal import make_anchors

    anchors, strides = cast(Any, make_anchors)(raw["feats"], criterion.stride, 0.5)
    found = criterion.bbox_decode(anchors, raw["boxes"].permute(0, 2, 1).contiguous()) * strides
    height, width = (float(n * criterion.stride[0]) for n in raw["feats"][0].shape[2:])
    truth = corners(batch["bboxes"]) * found.new_tensor([width, height, width, height])
    sure, classes = raw["scores"].sigmoid(), batch["cls"].view(-1).long()
    values = []
    for i in range(len(sure)):
        own = batch["batch_idx"] == i
        if own.any():
            close = box_iou(truth[own], found[i]) >= IOU
            values.append((sure[i, classes[own]] * close).amax(1).mean())
        else:
            values.append(1 - sure[i].amax())
    return torch.stack(values)
