# SPDX-License-Identifier: Apache-2.0
"""Checks the values of hyper-parameters before a method runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from expunge.errors import InputError

COUNTS = {"epochs", "batch", "steps", "samples", "averaged", "k", "noises", "noise_steps", "total_steps"}
"""Whole numbers of which 0 means that nothing is done."""

RATES = {
    "lr", "impair_lr", "repair_lr", "damping", "rise", "epsilon", "delta", "bound", "part", "share",
    "smoothness", "gradient_bound",
}  # fmt: skip
"""Numbers of which 0 means that nothing is done, or that cannot be divided by."""

SHARES = {"part", "share"}
"""Of a whole: at most 1."""

SIZES = {
    "alpha", "beta", "gamma", "penalty", "noise", "dampening", "slow", "doublings", "max_epochs",
}  # fmt: skip
"""Numbers that may be 0 and never negative."""


def is_number(value: object) -> bool:
    """Say whether something is a real number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object, least: int) -> bool:
    """Say whether something is a whole number of at least ``least``; a truth value is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_value(method: str, name: str, value: Any, default: Any) -> None:
    """Refuse a value with which a method would do nothing, or could not work.

    Args:
        method: The method's name.
        name: Of the hyper-parameter.
        value: Its value.
        default: Its default, which says its type; None: it has none.

    Raises:
        InputError: If the value is of the wrong type, is no finite number, or is out of range.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            check_value(method, str(key), entry, None)
        return
    if isinstance(default, bool):
        _require(isinstance(value, bool), method, name, value, "true or false")
        return
    if not is_number(value):
        named = name in COUNTS | RATES | SIZES
        typed = isinstance(default, (int, float)) or (named and value is not None)
        _require(not typed, method, name, value, "a number")
        return
    _require(math.isfinite(value), method, name, value, "a finite number")
    if name in COUNTS or (isinstance(default, int) and name not in RATES):
        _require(isinstance(value, Integral), method, name, value, "a whole number")
    if name in COUNTS:
        _require(value >= 1, method, name, value, "1 or more")
    elif name in RATES:
        _require(value > 0, method, name, value, "greater than 0")
    elif name in SIZES:
        _require(value >= 0, method, name, value, "0 or more")
    if name in SHARES:
        _require(value <= 1, method, name, value, "at most 1")


def _require(fits: bool, method: str, name: str, value: Any, what: str) -> None:
    if not fits:
        raise InputError(
            f"{name}={value} does not fit the method '{method}'.",
            f"It must be {what}.",
            f"Give {name} another value, or leave it out.",
        )
