# SPDX-License-Identifier: Apache-2.0
"""Validation of hyperparameter values before a method runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from expunge.errors import InputError

COUNTS = {"epochs", "batch", "steps", "samples", "averaged", "k", "noises", "noise_steps", "total_steps"}
"""Whole numbers that must be at least 1."""

RATES = {
    "lr", "impair_lr", "repair_lr", "damping", "rise", "epsilon", "delta", "bound", "part", "share",
    "smoothness", "gradient_bound",
}  # fmt: skip
"""Numbers that must be greater than 0: with 0 the method has no effect or divides by zero."""

SHARES = {"part", "share", "slow"}
"""Shares, which must be at most 1."""

SIZES = {
    "alpha", "beta", "gamma", "penalty", "noise", "dampening", "slow", "doublings", "max_epochs",
}  # fmt: skip
"""Numbers that must not be negative."""


def is_number(value: object) -> bool:
    """Return whether a value is a real number and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object, least: int) -> bool:
    """Return whether a value is an integer of at least ``least`` and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_values(method: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check hyperparameter values; see :func:`check_value`.

    Args:
        method: The method's name.
        values: The given values; all names must be known.
        defaults: Defaults of all hyperparameters.
    """
    for name, value in values.items():
        check_value(method, name, value, defaults[name])


def check_value(method: str, name: str, value: Any, default: Any) -> None:
    """Check that a method can work with a hyperparameter value.

    Args:
        method: The method's name.
        name: The hyperparameter's name.
        value: Its value.
        default: Its default, which determines the type; None if there is none.

    Raises:
        InputError: If the value has the wrong type, is not finite, or is out of range.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            check_value(method, str(key), entry, None)
        return
    if isinstance(default, bool):
        _require(isinstance(value, bool), method, name, value, "True or False")
        return
    least = 1 if name in COUNTS else 0
    whole = name in COUNTS or (isinstance(default, int) and name not in RATES)
    takes = f"a whole number, at least {least}" if whole else "a finite number, at least 0"
    if name in RATES:
        takes = "a finite number, greater than 0"
    if name in SHARES:
        takes = "a number from 0 to 1"
    if not is_number(value):
        named = value is not None and name in COUNTS | RATES | SIZES
        _require(not (named or isinstance(default, (int, float))), method, name, value, takes)
        return
    fits = math.isfinite(value) and (not whole or is_whole(value, least))
    fits = fits and (name not in RATES or value > 0) and (name not in SHARES or value <= 1)
    if isinstance(default, (int, float)) or name in SIZES:
        fits = fits and value >= 0
    _require(bool(fits), method, name, value, takes)


def _require(fits: bool, method: str, name: str, value: Any, takes: str) -> None:
    if fits:
        return
    shown = repr(value) if isinstance(value, (int, float, str)) else f"of the type {type(value).__name__}"
    raise InputError(
        f"The hyper-parameter '{name}' of the method '{method}' cannot be {shown}.",
        f"It takes {takes}.",
        "Correct it, or leave it out for the default.",
    )
