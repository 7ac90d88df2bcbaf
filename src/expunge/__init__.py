# SPDX-License-Identifier: Apache-2.0
"""Make a trained vision model forget."""

import sys

# `python -m expunge` puts the current folder first on the import path. It may be a data set from a stranger,
# so it is taken off before the next import (`from __future__` would be one).
if not sys.flags.safe_path and sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv:
    _module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if _module.partition(".")[0] == __name__ and not __file__.startswith(f"{sys.path[0]}/"):
        del sys.path[0]

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.erasure.workspace import Workspace
    from expunge.evidence.verification import verify
    from expunge.unlearning.api import audit, train_references, unlearn
    from expunge.unlearning.yolo_model import YOLO

__all__ = ["YOLO", "Workspace", "audit", "train_references", "unlearn", "verify"]
__version__ = "0.1.0"

_WHERE = {
    "YOLO": "expunge.unlearning.yolo_model",
    "Workspace": "expunge.erasure.workspace",
    "audit": "expunge.unlearning.api",
    "train_references": "expunge.unlearning.api",
    "unlearn": "expunge.unlearning.api",
    "verify": "expunge.evidence.verification",
}


def __getattr__(name: str) -> Any:
    # Imported on use: the command line must answer before torch could load.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'expunge' has no attribute {name!r}")
