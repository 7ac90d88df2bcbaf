# SPDX-License-Identifier: AGPL-3.0-or-later
"""Membership signals of a detector: loss and confidence at the true boxes, for each head."""

from __future__ import annotations

from typing import Any, cast

import torch
from torchvision.ops import box_iou

from expunge.tasks.yolo_boxes import losses, xywh_to_xyxy

IOU = 0.5


@torch.no_grad()
def signals(
    criterions: dict[str, Any], raw: dict[str, dict[str, torch.Tensor]], batch: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Return ``negative_loss.<head>`` and ``matched.<head>`` (B,); higher values indicate a member.

    Args:
        criterions: A ``v8DetectionLoss`` for each head.
        raw: ``boxes``, ``scores`` and ``feats`` of each head.
        batch: See :func:`expunge.tasks.yolo_boxes.losses`.
    """
    scores = {}
    for head, criterion in criterions.items():
        scores[f"negative_loss.{head}"] = -losses(criterion, raw[head], batch)
        scores[f"matched.{head}"] = matched(criterion, raw[head], batch)
    return scores


def matched(criterion: Any, raw: dict[str, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
    """Return the confidence of one head in each picture's labels (B,), in 0–1, before any suppression.

    The confidence in a true box is the highest confidence in its class among the anchors whose predicted box
    overlaps it with an IoU of at least 0.5, or 0 if there is none. The result is the mean over the true
    boxes. For a picture without boxes it is 1 − the highest confidence at any anchor.

    Args:
        criterion: A ``v8DetectionLoss``, which decodes boxes.
        raw: ``boxes`` (B, 4R, A), ``scores`` (B, C, A) and ``feats`` of the head.
        batch: ``batch_idx`` (n,), ``cls`` (n, 1) and ``bboxes`` (n, 4), xywh in 0–1.
    """
    from ultralytics.utils.tal import make_anchors

    anchors, strides = cast(Any, make_anchors)(raw["feats"], criterion.stride, 0.5)
    predicted = criterion.bbox_decode(anchors, raw["boxes"].permute(0, 2, 1).contiguous()) * strides
    height, width = (float(n * criterion.stride[0]) for n in raw["feats"][0].shape[2:])
    truth = xywh_to_xyxy(batch["bboxes"]) * predicted.new_tensor([width, height, width, height])
    confidence, classes = raw["scores"].sigmoid(), batch["cls"].view(-1).long()
    values = []
    for i in range(len(confidence)):
        own = batch["batch_idx"] == i
        if own.any():
            overlapping = box_iou(truth[own], predicted[i]) >= IOU
            values.append((confidence[i, classes[own]] * overlapping).amax(1).mean())
        else:
            values.append(1 - confidence[i].amax())
    return torch.stack(values)
