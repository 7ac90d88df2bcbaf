# SPDX-License-Identifier: AGPL-3.0-or-later
"""A training as users run it, with plain Ultralytics."""

from __future__ import annotations

from pathlib import Path


def train_stock(data: str, model: str, project: str) -> str:
    """Train with plain Ultralytics; returns the weights' path."""
    from expunge.tasks.quiet import load_ultralytics

    load_ultralytics()
    from ultralytics import YOLO

    yolo = YOLO(model)
    yolo.train(
        data=data, epochs=2, imgsz=32, batch=8, device="cpu", workers=0, project=project, name="run",
        exist_ok=True, cache="disk", verbose=False,
    )  # fmt: skip
    return str(Path(project) / "run" / "weights" / "last.pt")
