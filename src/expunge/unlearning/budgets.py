# SPDX-License-Identifier: Apache-2.0
"""What a budget allows, and whether a method can make a step with it: known before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.errors import InputError
from expunge.methods.base import Method
from expunge.methods.least import Sizes

BUDGET = 0.25  # units of a retrain
BUDGET_PASSES = 12.0  # over the retained data, where the length of a retrain is not known
DIGITS = 4  # of the budget that a message names


@dataclass(frozen=True)
class Allowance:
    """What a budget means for one model and its data.

    Attributes:
        budget: In units of a retrain.
        retrain_epochs: Epochs of an ordinary training; None: not known, and the budget is 12 passes.
        retained: Samples of the whole retain set.
    """

    budget: float
    retrain_epochs: int | None
    retained: int

    @property
    def retrain_passes(self) -> float | None:
        """What a retrain takes, in passes of one sample."""
        return None if self.retrain_epochs is None else float(self.retrain_epochs * self.retained)

    @property
    def passes(self) -> float:
        """What the budget allows, in passes of one sample."""
        whole = self.retrain_passes
        return BUDGET_PASSES * self.retained if whole is None else self.budget * whole

    def require(self, method: Method, values: Mapping[str, Any], sizes: Sizes, spent: float = 0.0) -> None:
        """Refuse a budget with which a method could not make one step.

        Args:
            method: The method.
            values: Hyper-parameters that are given.
            sizes: How many samples it works on.
            spent: Passes done already.

        Raises:
            InputError: With the smallest budget that suffices.
        """
        work, left = method.least_work(sizes, values), self.passes - spent
        if work.needed <= left * (1 + 1e-9):
            return
        raise InputError(
            f"The budget does not suffice for '{method.name}'.",
            f"It allows {left:.1f} passes of a sample, and the first step takes {work.needed:.1f}.",
            self.advice(work.enough + spent),
        )

    def advice(self, passes: float) -> str:
        """Return what to do where so many passes are needed."""
        whole = self.retrain_passes
        if whole is None:
            return (
                "Say how many epochs a training takes (retrain_epochs), so that the budget can be raised, or "
                "choose a cheaper method or a smaller batch."
            )
        least = rounded_up(passes / whole)
        dearer = " A retrain is cheaper (method retrain)." if least >= 1 else ""
        return f"Give a budget of at least {least:.{DIGITS}g}, or choose a cheaper method.{dearer}"


def rounded_up(value: float) -> float:
    """Return a positive number with few digits that is not below another one."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return round(math.ceil(value / unit - 1e-9) * unit, 12)
