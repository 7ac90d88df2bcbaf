# SPDX-License-Identifier: Apache-2.0
"""The bounds of the small worlds, with room: what is learnt differs from machine to machine.

A world of one seed is another one on another processor, so what is judged, a mean over worlds, is a draw.
``methods.spread`` measures mean and deviation of each figure on worlds of other seeds than those that are
judged. A declared bound that a method keeps with room is its bound. Where there is no room, the bound is what
the method keeps, and where it misses the declared bound with room, that is asserted too.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

FILE = Path(__file__).with_name("spread.json")
CHANCE = 1e-4  # that a mean over the judged worlds lies beyond its bound, on a machine never seen
UNSURE = 0.1  # that the deviation is larger still than what is taken for it
LEAST = 0.01  # of a deviation: some figures were the same in all worlds
STEP = 0.05  # to which bounds are rounded
SEEDS = range(8)  # of the worlds that are judged

DROP = 0.05  # of the retain metric
MOVED = 0.75  # of the way from the reference to the original: the least that counts as having moved
BEYOND = -0.25  # on the other side of the reference: the most that counts as not beyond it
PRESENT = 0.2  # of a removed class: the most that may still be recognised


@dataclass(frozen=True)
class Check:
    """What is judged: a figure, its declared bound, and whether that is the most (1) or the least (-1)."""

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
    """Mean and standard deviation of a figure over so many worlds."""

    mean: float
    deviation: float
    worlds: int

    @property
    def room(self) -> float:
        """How far a mean over the judged worlds may lie from the one measured, but once in 10,000 times."""
        few = self.worlds - 1
        largest = self.deviation * math.sqrt(
            few / stats.chi2.ppf(UNSURE, few)
        )  # it may be, with so few worlds
        error = max(largest, LEAST) * math.sqrt(1 / len(SEEDS) + 1 / self.worlds)
        return float(stats.norm.ppf(1 - CHANCE)) * error


def spread(check: str, world: str, method: str) -> Spread | None:
    """Return what was measured; None for a method that is newer than the measurement."""
    measured = _MEASURED["figures"].get(f"{world}/{method}", {}).get(CHECKS[check].figure)
    return None if measured is None else Spread(*measured, _MEASURED["worlds"])


def has_room(check: str, world: str, method: str) -> bool:
    """Whether a method keeps the declared bound on every machine."""
    rule, found = CHECKS[check], spread(check, world, method)
    return found is None or rule.side * (rule.declared - found.mean) >= found.room


def misses(check: str, world: str, method: str) -> bool:
    """Whether a method misses the declared bound on every machine."""
    rule, found = CHECKS[check], spread(check, world, method)
    return found is not None and rule.side * (found.mean - rule.declared) >= found.room


def bound(check: str, world: str, method: str) -> float:
    """Return the bound that a method keeps on every machine: the declared one, or a weaker one."""
    rule, found = CHECKS[check], spread(check, world, method)
    if found is None or has_room(check, world, method):
        return rule.declared
    return rule.side * math.ceil((rule.side * found.mean + found.room) / STEP) * STEP


def complaint(check: str, world: str, method: str, value: float) -> str:
    """Return why a mean over the judged worlds is not what was measured; empty where it is."""
    rule, limit = CHECKS[check], bound(check, world, method)
    if rule.side * (value - limit) > 0:
        return f"{rule.figure} {value:.3f}, bound {limit:.2f}"
    if misses(check, world, method) and rule.side * (value - rule.declared) <= 0:
        return f"{rule.figure} {value:.3f} keeps {rule.declared}, which is recorded as missed"
    return ""


_MEASURED = json.loads(FILE.read_text(encoding="utf-8"))
