# SPDX-License-Identifier: Apache-2.0
"""Keeps PyTorch's compiler out of training processes, which never compile: its import costs seconds each.

``torch.optim`` imports ``torch._dynamo`` at the first step of an optimizer, only to say that what follows is
not to be compiled.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _Standby(ModuleType):
    """Answers what optimizers ask; whatever else is asked for loads the real module and puts it here."""

    @staticmethod
    def graph_break() -> None:
        """Nothing is being compiled that could be interrupted."""

    @staticmethod
    def disable(function: Callable[..., Any], *args: Any, **settings: Any) -> Callable[..., Any]:
        """Return the function: it is not compiled anyway."""
        return function

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)


def without_compiler() -> None:
    """Spare this process the compiler, unless it is there already, until something really needs it."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _Standby(NAME)
