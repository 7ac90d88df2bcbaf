# SPDX-License-Identifier: Apache-2.0
"""Make a trained vision model forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge import audit
    from expunge.tasks.yolo_model import YOLO
    from expunge.unlearning.api import train_references, unlearn
    from expunge.verification import verify
    from expunge.workspace import Workspace

__all__ = ["YOLO", "Workspace", "audit", "train_references", "unlearn", "verify"]
__version__ = "0.1.0"

_WHERE = {
    "YOLO": "expunge.tasks.yolo_model",
    "Workspace": "expunge.workspace",
    "train_references": "expunge.unlearning.api",
    "unlearn": "expunge.unlearning.api",
    "verify": "expunge.verification",
}


def __getattr__(name: str) -> Any:
    # Imported on use: the command line must answer before torch could load.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'expunge' has no attribute {name!r}")
