# SPDX-License-Identifier: Apache-2.0
"""Judges candidate models; nothing in here knows which method made them.

The package can be called: ``expunge.audit`` is also the public function, and importing any module in here
would otherwise put the package in the function's place.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from expunge.unlearning.api import audit

        return audit(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
