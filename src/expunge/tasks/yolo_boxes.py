# SPDX-License-Identifier: AGPL-3.0-or-later
"""Computations on boxes: per-image detection loss, divergence, random wrong boxes, and matching.

B: images, A: anchors, C: classes, R: bins of a box side (``reg_max``; 1: the side itself).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torchvision.ops import box_iou

CANDIDATES = 64
SIDES = (0.1, 0.5)  # range of the side lengths of random boxes, as shares of the picture


def losses(criterion: Any, raw: dict[str, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
    """Return Ultralytics' ``v8DetectionLoss`` of each image (B,), computed in one pass.

    Images interact only in the loss's normaliser, the sum of the target scores; it is computed per image.

    Args:
        criterion: A ``v8DetectionLoss``.
        raw: ``boxes`` (B, 4R, A), ``scores`` (B, C, A) and ``feats`` of one head.
        batch: ``batch_idx`` (n,), ``cls`` (n, 1) and ``bboxes`` (n, 4), xywh in 0–1.
    """
    from ultralytics.utils.metrics import bbox_iou
    from ultralytics.utils.tal import bbox2dist, make_anchors

    sides = raw["boxes"].permute(0, 2, 1).contiguous()
    scores = raw["scores"].permute(0, 2, 1).contiguous()
    count = len(scores)
    anchors, strides = cast(Any, make_anchors)(raw["feats"], criterion.stride, 0.5)
    height, width = (float(n * criterion.stride[0]) for n in raw["feats"][0].shape[2:])
    size = scores.new_tensor([width, height, width, height])
    rows = torch.cat([batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"]], 1)
    classes, truth = criterion.preprocess(rows, count, scale_tensor=size).split((1, 4), 2)
    decoded = criterion.bbox_decode(anchors, sides)
    _, target_boxes, target_scores, foreground, _ = criterion.assigner(
        scores.detach().sigmoid(),
        decoded.detach() * strides,
        anchors * strides,
        classes,
        truth,
        truth.sum(2, keepdim=True).gt(0.0),
    )
    total = target_scores.sum((1, 2)).clamp(min=1)
    entropy = criterion.bce(scores, target_scores.to(scores.dtype))
    if criterion.class_weights is not None:
        entropy = entropy * criterion.class_weights
    value: torch.Tensor = criterion.hyp.cls * entropy.sum((1, 2))
    image, anchor = foreground.nonzero(as_tuple=True)
    if len(image):
        weight = target_scores[image, anchor].sum(1)
        stride, anchor_points = strides[anchor], anchors[anchor]
        target_box, predicted = target_boxes[image, anchor] / stride, sides[image, anchor]
        overlap = bbox_iou(decoded[image, anchor], target_box, xywh=False, CIoU=True).squeeze(-1)
        if criterion.use_dfl:
            target_sides = bbox2dist(anchor_points, target_box, criterion.reg_max - 1)
            side_loss = criterion.bbox_loss.dfl_loss(
                predicted.view(-1, criterion.reg_max), target_sides
            ).squeeze(-1)
        else:
            side_loss = ((predicted - bbox2dist(anchor_points, target_box)) * stride / size).abs().mean(1)
        part = (criterion.hyp.box * (1 - overlap) + criterion.hyp.dfl * side_loss) * weight
        value = value.index_add(0, image, part.to(value.dtype))
    per_image: torch.Tensor = value / total
    return per_image


def divergence(
    student_scores: torch.Tensor,
    student_sides: torch.Tensor,
    teacher_scores: torch.Tensor,
    teacher_sides: torch.Tensor,
    gains: tuple[float, float, float],
) -> torch.Tensor:
    """Return the divergence of one head from a teacher's (B,); see :mod:`expunge.tasks.yolo_detect`.

    Args:
        student_scores: Class logits (B, C, A).
        student_sides: Box sides (B, 4R, A).
        teacher_scores: Class logits (B, C, A).
        teacher_sides: Box sides (B, 4R, A).
        gains: Gains of box, class and side distribution in the training loss.
    """
    box, cls, dfl = gains
    teacher_scores, teacher_sides = teacher_scores.detach(), teacher_sides.detach()
    probabilities = teacher_scores.sigmoid()
    entropy = nn.functional.binary_cross_entropy_with_logits
    value = entropy(student_scores, probabilities, reduction="none") - entropy(
        teacher_scores, probabilities, reduction="none"
    )
    classes = value.sum((1, 2))
    weight = probabilities.amax(1)
    student, teacher = (_expected_sides(sides) for sides in (student_sides, teacher_sides))
    extent = (teacher[:, :2] + teacher[:, 2:]).clamp(min=1).repeat(1, 2, 1)
    distance = box * (student - teacher).abs() / extent
    # exp(-d) + d - 1 loses precision near 0; there it equals d²/2
    laplace = torch.where(distance < 1e-2, distance.square() / 2, torch.expm1(-distance) + distance).sum(1)
    bins = student_sides.shape[1] // 4
    if bins > 1:
        p, q = (_bins(sides).log_softmax(2) for sides in (teacher_sides, student_sides))
        laplace = laplace + dfl * (p.exp() * (p - q)).sum(2).mean(1)
    total = cls * classes + (weight * laplace).sum(1)
    return total.clamp_min(0) / weight.sum(1).clamp(min=1)


def _expected_sides(sides: torch.Tensor) -> torch.Tensor:
    """Return the distances (B, 4, A) in strides from anchors to left, top, right and bottom.

    Args:
        sides: Box sides (B, 4R, A).
    """
    bins = sides.shape[1] // 4
    if bins == 1:
        return sides
    values = torch.arange(bins, dtype=sides.dtype, device=sides.device)
    return (_bins(sides).softmax(2) * values[:, None]).sum(2)


def _bins(sides: torch.Tensor) -> torch.Tensor:
    batch, channels, anchors = sides.shape
    return sides.reshape(batch, 4, channels // 4, anchors)


def xywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes xywh (…, 4) as xyxy."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def xyxy_to_xywh(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes xyxy (…, 4) as xywh."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def move_boxes(boxes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the boxes of one image, moved to random positions that overlap none of the original boxes.

    If 64 draws find no free position for a box, the draw with the smallest overlap is used.

    Args:
        boxes: xywh in 0–1 (n, 4), on the CPU.
        generator: Draws the positions.

    Returns:
        Boxes of the same sizes (n, 4).
    """
    size = boxes[:, None, 2:].clamp(max=1)
    positions = torch.rand((len(boxes), CANDIDATES, 2), generator=generator)
    moved = torch.cat([size / 2 + positions * (1 - size), size.expand(-1, CANDIDATES, -1)], 2)
    overlap = (
        box_iou(xywh_to_xyxy(moved).flatten(0, 1), xywh_to_xyxy(boxes))
        .view(len(boxes), CANDIDATES, -1)
        .amax(2)
    )
    best = overlap.argmin(1)
    return moved[torch.arange(len(boxes)), best]


def random_box(generator: torch.Generator) -> torch.Tensor:
    """Return a random box inside the picture, xywh in 0–1 (1, 4)."""
    smallest, largest = SIDES
    size = smallest + (largest - smallest) * torch.rand((1, 2), generator=generator)
    return torch.cat([size / 2 + torch.rand((1, 2), generator=generator) * (1 - size), size], 1)


def boxes_match(
    found: torch.Tensor,
    found_classes: torch.Tensor,
    truth: torch.Tensor,
    true_classes: torch.Tensor,
    iou: float = 0.5,
) -> bool:
    """Return whether two sets of boxes (xyxy) match one to one, each pair with equal class and IoU ≥ ``iou``.

    Matching is greedy, largest overlap first, as for average precision.
    """
    if len(found) != len(truth):
        return False
    overlap = box_iou(found, truth) * (found_classes[:, None] == true_classes[None, :])
    for _ in range(len(found)):
        best = int(overlap.argmax())
        row, column = divmod(best, len(truth))
        if overlap[row, column] < iou:
            return False
        overlap[row, :] = -1
        overlap[:, column] = -1
    return True
