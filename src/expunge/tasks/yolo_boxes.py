# SPDX-License-Identifier: AGPL-3.0-or-later
"""The maths of boxes: Ultralytics' detection loss image by image, divergences, wrong boxes, matching.

B: images, A: anchors, C: classes, R: bins of a box side (``reg_max``; 1: the side itself).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torchvision.ops import box_iou

CANDIDATES = 64
SIDES = (0.1, 0.5)  # of a box drawn where there was none, as shares of the picture


def losses(criterion: Any, raw: dict[str, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
    """Return what Ultralytics' ``v8DetectionLoss`` gives for each image alone (B,), computed for all at once.

    The assignment of boxes to anchors does not mix images; only the normaliser, the sum of the target scores,
    does, and is taken image by image here.

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
    _, goals, targets, chosen, _ = criterion.assigner(
        scores.detach().sigmoid(),
        decoded.detach() * strides,
        anchors * strides,
        classes,
        truth,
        truth.sum(2, keepdim=True).gt(0.0),
    )
    total = targets.sum((1, 2)).clamp(min=1)
    entropy = criterion.bce(scores, targets.to(scores.dtype))
    if criterion.class_weights is not None:
        entropy = entropy * criterion.class_weights
    value: torch.Tensor = criterion.hyp.cls * entropy.sum((1, 2))
    image, anchor = chosen.nonzero(as_tuple=True)
    if len(image):
        weight = targets[image, anchor].sum(1)
        stride, centre = strides[anchor], anchors[anchor]
        goal, mine = goals[image, anchor] / stride, sides[image, anchor]
        overlap = bbox_iou(decoded[image, anchor], goal, xywh=False, CIoU=True).squeeze(-1)
        if criterion.use_dfl:
            reach = bbox2dist(centre, goal, criterion.reg_max - 1)
            off = criterion.bbox_loss.dfl_loss(mine.view(-1, criterion.reg_max), reach).squeeze(-1)
        else:
            off = ((mine - bbox2dist(centre, goal)) * stride / size).abs().mean(1)
        part = (criterion.hyp.box * (1 - overlap) + criterion.hyp.dfl * off) * weight
        value = value.index_add(0, image, part.to(value.dtype))
    each: torch.Tensor = value / total
    return each


def divergence(
    student_scores: torch.Tensor,
    student_sides: torch.Tensor,
    teacher_scores: torch.Tensor,
    teacher_sides: torch.Tensor,
    gains: tuple[float, float, float],
) -> torch.Tensor:
    """Return how far one head's outputs are from a teacher's (B,); see :mod:`expunge.tasks.yolo_detect`.

    Args:
        student_scores: Class logits (B, C, A).
        student_sides: Box sides (B, 4R, A).
        teacher_scores: As the student's.
        teacher_sides: As the student's.
        gains: Of box, class and side distribution, as in the training loss.
    """
    box, cls, dfl = gains
    teacher_scores, teacher_sides = teacher_scores.detach(), teacher_sides.detach()
    sure = teacher_scores.sigmoid()
    entropy = nn.functional.binary_cross_entropy_with_logits
    value = entropy(student_scores, sure, reduction="none") - entropy(teacher_scores, sure, reduction="none")
    classes = value.sum((1, 2))
    weight = sure.amax(1)
    student, teacher = (_expected(sides) for sides in (student_sides, teacher_sides))
    span = (teacher[:, :2] + teacher[:, 2:]).clamp(min=1).repeat(1, 2, 1)
    apart = box * (student - teacher).abs() / span
    # exp(-d) + d - 1 cancels near 0, where it is d²/2
    laplace = torch.where(apart < 1e-2, apart.square() / 2, torch.expm1(-apart) + apart).sum(1)
    bins = student_sides.shape[1] // 4
    if bins > 1:
        p, q = (_bins(sides).log_softmax(2) for sides in (teacher_sides, student_sides))
        laplace = laplace + dfl * (p.exp() * (p - q)).sum(2).mean(1)
    total = cls * classes + (weight * laplace).sum(1)
    return total.clamp_min(0) / weight.sum(1).clamp(min=1)


def _expected(sides: torch.Tensor) -> torch.Tensor:
    """Distances from the anchor to left, top, right and bottom in strides (B, 4, A), from (B, 4R, A)."""
    bins = sides.shape[1] // 4
    if bins == 1:
        return sides
    values = torch.arange(bins, dtype=sides.dtype, device=sides.device)
    return (_bins(sides).softmax(2) * values[:, None]).sum(2)


def _bins(sides: torch.Tensor) -> torch.Tensor:
    batch, channels, anchors = sides.shape
    return sides.reshape(batch, 4, channels // 4, anchors)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Turn boxes xywh (…, 4) into xyxy."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def centred(boxes: torch.Tensor) -> torch.Tensor:
    """Turn boxes xyxy (…, 4) into xywh."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def elsewhere(boxes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move the boxes of one image to random places inside it that none of them covers.

    Args:
        boxes: xywh in 0–1 (n, 4), on the CPU.
        generator: Draws the places.

    Returns:
        Boxes of the same sizes (n, 4); where 64 draws find no free place, the draw that is covered least.
    """
    size = boxes[:, None, 2:].clamp(max=1)
    places = torch.rand((len(boxes), CANDIDATES, 2), generator=generator)
    moved = torch.cat([size / 2 + places * (1 - size), size.expand(-1, CANDIDATES, -1)], 2)
    overlap = box_iou(corners(moved).flatten(0, 1), corners(boxes)).view(len(boxes), CANDIDATES, -1).amax(2)
    best = overlap.argmin(1)
    return moved[torch.arange(len(boxes)), best]


def somewhere(generator: torch.Generator) -> torch.Tensor:
    """Draw a box inside the picture, xywh in 0–1 (1, 4)."""
    low, high = SIDES
    size = low + (high - low) * torch.rand((1, 2), generator=generator)
    return torch.cat([size / 2 + torch.rand((1, 2), generator=generator) * (1 - size), size], 1)


def agree(
    found: torch.Tensor,
    found_classes: torch.Tensor,
    truth: torch.Tensor,
    true_classes: torch.Tensor,
    iou: float = 0.5,
) -> bool:
    """Whether two sets of boxes (xyxy) can be paired off, class by class, each pair overlapping enough.

    Greedy, the largest overlap first, as in the matching of detections for average precision.
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
