# SPDX-License-Identifier: AGPL-3.0-or-later
"""Detections of a weights file on pictures by plain Ultralytics, for reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expunge.tasks.quiet import load_ultralytics

Box = tuple[float, float, float, float]


def predict_boxes(
    weights: Path, images: Sequence[Path], imgsz: int, conf: float = 0.25
) -> list[list[tuple[Box, float]]]:
    """Return the boxes (xyxy, pixels) of each image with their confidence, most confident first."""
    ultralytics = load_ultralytics()
    model = ultralytics.YOLO(str(weights))
    detections = []
    for image in images:
        boxes = model.predict(str(image), imgsz=imgsz, conf=conf, verbose=False, save=False)[0].boxes
        rows = sorted(zip(boxes.xyxy.tolist(), boxes.conf.tolist(), strict=True), key=lambda r: -r[1])
        detections.append([((x1, y1, x2, y2), score) for (x1, y1, x2, y2), score in rows])
    return detections
