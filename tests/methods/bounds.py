# SPDX-License-Identifier: Apache-2.0
"""Bounds for the figures of the small worlds, with a margin for differences between machines.

A world of one seed gives other results on another processor, so a judged figure, a mean over worlds, is a
random draw. ``methods.spread`` measures mean and standard deviation of each figure on worlds with other seeds
than the judged ones. A declared bound that a method meets with a margin is its bound. Without a margin, the
bound is the figure that the method reaches; if it misses the declared bound with a margin, that is asserted
as well.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

FILE = Path(__file__).with_name("spread.json")
CHANCE = 1e-4  # probability that a mean over the judged worlds is out of bounds on another machine
UNSURE = 0.1  # probability that the deviation is larger than the assumed one
LEAST = 0.01  # smallest assumed deviation, since some figures were equal in all worlds
STEP = 0.05  # bounds are rounded to multiples of this
SEEDS = range(8)  # seeds of the judged worlds

DROP = 0.05  # largest allowed decrease of the retain metric
MOVED = 0.75  # largest remaining share of the way to the reference for a model that moved
BEYOND = -0.25  # limit on the other side of the reference
PRESENT = 0.2  # largest allowed metric on a removed class


@dataclass(frozen=True)
class Check:
    """A judged figure, its declared bound, and whether that is a maximum (1) or a minimum (-1)."""

    figure: str
    declared: float
    side: int


CHECKS = {
    "retain": Check("lost", DROP, 1),
    "toward": Check("left", MOVED, 1),
    "beyond": Check("left", BEYOND, -1),
    "absent": Check("forget", PRESENT, 1),
}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over a number of worlds."""

    mean: float
    deviation: float
    worlds: int

    @property
    def room(self) -> float:
        """Return the largest difference between two means over worlds, exceeded once in 10,000 times."""
        few = self.worlds - 1
        # an upper estimate, since the worlds are few
        largest = self.deviation * math.sqrt(few / stats.chi2.ppf(UNSURE, few))
        error = max(largest, LEAST) * math.sqrt(1 / len(SEEDS) + 1 / self.worlds)
        return float(stats.norm.ppf(1 - CHANCE)) * error


def spread(check: str, world: str, method: str) -> Spread | None:
    """Return the measured spread; None for a method that is newer than the measurement."""
    measured = _MEASURED["figures"].get(f"{world}/{method}", {}).get(CHECKS[check].figure)
    return None if measured is None else Spread(*measured, _MEASURED["worlds"])


def has_room(check: str, world: str, method: str) -> bool:
    """Return whether a method meets the declared bound on every machine."""
    rule, found = CHECKS[check], spread(check, world, method)
    return found is None or rule.side * (rule.declared - found.mean) >= found.room


def misses(check: str, world: str, method: str) -> bool:
    """Return whether a method misses the declared bound on every machine."""
    rule, found = CHECKS[check], spread(check, world, method)
    return found is not None and rule.side * (found.mean - rule.declared) >= found.room


def bound(check: str, world: str, method: str) -> float:
    """Return the bound that a method meets on every machine: the declared one, or a weaker one."""
    rule, found = CHECKS[check], spread(check, world, method)
    if found is None or has_room(check, world, method):
        return rule.declared
    return rule.side * math.ceil((rule.side * found.mean + found.room) / STEP) * STEP


def complaint(check: str, world: str, method: str, value: float) -> str:
    """Return why a mean over the judged worlds contradicts the measurement; empty if it does not."""
    rule, limit = CHECKS[check], bound(check, world, method)
    if rule.side * (value - limit) > 0:
        return f"{rule.figure} {value:.3f}, bound {limit:.2f}"
    if misses(check, world, method) and rule.side * (value - rule.declared) <= 0:
        return f"{rule.figure} {value:.3f} keeps {rule.declared}, which is recorded as missed"
    return ""


_MEASURED = json.loads(FILE.read_text(encoding="utf-8"))
