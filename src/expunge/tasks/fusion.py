# SPDX-License-Identifier: Apache-2.0
"""Weighted box fusion (Solovyev, Wang & Gabruseva 2021, section 3) for the detections of an ensemble."""

from __future__ import annotations

import torch

Detections = dict[str, torch.Tensor]


def fuse(models: list[Detections], iou: float = 0.55) -> Detections:
    """Return the fused detections of several models on one image, sorted by confidence.

    A cluster's box is the confidence-weighted mean of its members (eq. 1–4); its confidence is their mean
    times min(members, models) / models (eq. 6).

    Args:
        models: Of each model ``bboxes`` (N, 4) in xyxy pixels, ``conf`` (N,) and ``cls`` (N,).
        iou: A box joins a cluster of its class if it overlaps the cluster's fused box by more than this.
    """
    parts = [torch.cat([m["bboxes"], m["conf"][:, None], m["cls"][:, None]], 1) for m in models]
    rows = torch.cat(parts)
    rows = rows[rows[:, 4].argsort(descending=True, stable=True)].double()
    clusters: list[list[torch.Tensor]] = []
    fused = torch.zeros((0, 6), dtype=torch.float64)
    for row in rows:
        overlap = _iou(row[:4], fused[:, :4]) * (fused[:, 5] == row[5])
        best = int(overlap.argmax()) if len(fused) else -1
        if best >= 0 and overlap[best] > iou:
            clusters[best].append(row)
        else:
            clusters.append([row])
            fused = torch.cat([fused, row[None]])
            best = len(clusters) - 1
        members = torch.stack(clusters[best])
        weight = members[:, 4:5]
        fused[best, :4] = (members[:, :4] * weight).sum(0) / weight.sum().clamp_min(1e-12)
        fused[best, 4] = members[:, 4].mean()
    counts = torch.tensor([min(len(c), len(models)) / len(models) for c in clusters], dtype=torch.float64)
    if len(fused):
        fused[:, 4] *= counts
        fused = fused[fused[:, 4].argsort(descending=True, stable=True)]
    result = fused.float()
    return {"bboxes": result[:, :4], "conf": result[:, 4], "cls": result[:, 5], "extra": result[:, 6:]}


def _iou(box: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    if not len(others):
        return torch.zeros(0, dtype=box.dtype)
    lower = torch.maximum(box[:2], others[:, :2])
    upper = torch.minimum(box[2:], others[:, 2:])
    intersection = (upper - lower).clamp_min(0).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return intersection / (areas - intersection).clamp_min(1e-12)
