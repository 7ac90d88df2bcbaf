# SPDX-License-Identifier: Apache-2.0
"""Convert a budget into passes, and check before any work that it suffices for one step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.errors import InputError
from expunge.methods.base import Method
from expunge.methods.least import SetSizes

BUDGET = 0.25  # units of a retrain
BUDGET_PASSES = 12.0  # passes over the retained data, if the length of a retrain is unknown
DIGITS = 4  # significant digits of a budget in a message


@dataclass(frozen=True)
class Allowance:
    """A budget for one model and its data.

    Attributes:
        budget: Budget in units of a retrain.
        retrain_epochs: Epochs of a full training; None: unknown, and the budget is 12 passes.
        retained: Number of samples in the whole retain set.
    """

    budget: float
    retrain_epochs: int | None
    retained: int

    @property
    def retrain_passes(self) -> float | None:
        """Cost of a retrain, in passes of one sample."""
        return None if self.retrain_epochs is None else float(self.retrain_epochs * self.retained)

    @property
    def passes(self) -> float:
        """The budget in passes of one sample."""
        whole = self.retrain_passes
        return BUDGET_PASSES * self.retained if whole is None else self.budget * whole

    def require(self, method: Method, values: Mapping[str, Any], sizes: SetSizes, spent: float = 0.0) -> None:
        """Raise InputError if the budget does not suffice for one step of a method.

        Args:
            method: The method.
            values: Given hyper-parameters.
            sizes: Numbers of samples.
            spent: Passes already spent.

        Raises:
            InputError: With the smallest budget that suffices.
        """
        work, remaining = method.least_work(sizes, values), self.passes - spent
        if work.needed <= remaining * (1 + 1e-9):
            return
        raise InputError(
            f"The budget does not suffice for '{method.name}'.",
            f"It allows {remaining:.1f} passes of a sample, and the first step takes {work.needed:.1f}.",
            self.advice(work.enough + spent),
        )

    def advice(self, passes: float) -> str:
        """Return the advice for a user whose method needs this many passes."""
        whole = self.retrain_passes
        if whole is None:
            return (
                "Give the number of training epochs (retrain_epochs), so that the budget can be raised, or "
                "choose a cheaper method or a smaller batch."
            )
        least = rounded_up(passes / whole)
        alternative = " A retrain is cheaper (method retrain)." if least >= 1 else ""
        return f"Give a budget of at least {least:.{DIGITS}g}, or choose a cheaper method.{alternative}"


def rounded_up(value: float) -> float:
    """Return a value rounded up to DIGITS significant digits."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return round(math.ceil(value / unit - 1e-9) * unit, 12)
