# SPDX-License-Identifier: Apache-2.0
"""Avoids importing PyTorch's compiler in training processes, which never compile; the import takes seconds.

``torch.optim`` imports ``torch._dynamo`` at an optimizer's first step, only to exclude the step from
compilation.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _DynamoStub(ModuleType):
    """Provides the functions that optimizers use; access to any other attribute loads the real module."""

    @staticmethod
    def graph_break() -> None:
        """Do nothing: nothing is compiled."""

    @staticmethod
    def disable(function: Callable[..., Any], *args: Any, **settings: Any) -> Callable[..., Any]:
        """Return the function unchanged: nothing is compiled."""
        return function

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)


def install_compiler_stub() -> None:
    """Install the stub in this process, unless the compiler has been imported already."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _DynamoStub(NAME)
