# SPDX-License-Identifier: Apache-2.0
"""Checks the values of hyper-parameters by their defaults and names, before any work."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from expunge.errors import InputError

AT_LEAST_ONE = {"averaged", "batch", "k", "noises", "samples"}
SHARES = {"part", "share", "slow"}


def check_values(method: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse values that are of another kind than the default, or outside what the name allows.

    Args:
        method: Its name.
        values: What was given; only known names.
        defaults: Of all hyper-parameters. A value whose default is None or no number is not checked.

    Raises:
        InputError: It names the hyper-parameter and says what it takes.
    """
    for name, value in values.items():
        default = defaults[name]
        if isinstance(default, bool):
            if not isinstance(value, bool):
                _refuse(method, name, value, "True or False")
        elif isinstance(default, int):
            least = 1 if name in AT_LEAST_ONE else 0
            if not _count(value, least):
                _refuse(method, name, value, f"a whole number, at least {least}")
        elif isinstance(default, float):
            _check_real(method, name, value)
        elif default is None and name == "epochs" and not _count(value, 1):
            _refuse(method, name, value, "a whole number, at least 1")


def _check_real(method: str, name: str, value: Any) -> None:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if name in SHARES:
        if not real or not 0 <= value <= 1:
            _refuse(method, name, value, "a number from 0 to 1")
    elif not real or value < 0:
        _refuse(method, name, value, "a finite number, at least 0")


def _count(value: Any, least: int) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def _refuse(method: str, name: str, value: Any, takes: str) -> None:
    shown = repr(value) if isinstance(value, (int, float, str)) else f"of the type {type(value).__name__}"
    raise InputError(
        f"The hyper-parameter '{name}' of the method '{method}' cannot be {shown}.",
        f"It takes {takes}.",
        "Correct it, or leave it out for the default.",
    )
