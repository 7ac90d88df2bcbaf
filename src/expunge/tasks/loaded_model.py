# SPDX-License-Identifier: AGPL-3.0-or-later
"""A model loaded from a weights file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A model loaded from a weights file.

    Attributes:
        module: The model, in fp32 on the CPU.
        task: ``detect``, ``classify``, …
        names: Class names.
        imgsz: Image size in pixels for which it was trained.
        train_args: Ultralytics' training settings, as far as they are recorded.
    """

    module: nn.Module
    task: str
    names: tuple[str, ...]
    imgsz: int
    train_args: dict[str, Any]
