# SPDX-License-Identifier: Apache-2.0
"""A row of the tables: what one method reached on one goal."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.methods.measure import failures, ratios


@dataclass(frozen=True)
class Row:
    """A method on a goal, over seeds.

    Attributes:
        method, goal: Which.
        gaps: Of every seed; see :func:`benchmarks.methods.measure.compare`.
        broken: Seeds on which it did not run to its end.
        trouble: Why.
        passes, seconds: Mean over seeds, in units of a retrain; None for the original.
        floor: Seconds over the floor of its own passes, median over seeds; None where it was not taken.
        values: Its hyper-parameters, as tuned.
    """

    method: str
    goal: str
    gaps: tuple[dict[str, float], ...]
    broken: int
    trouble: str
    passes: float | None
    seconds: float | None
    floor: float | None
    values: dict[str, Any]

    @property
    def ratios(self) -> dict[str, float]:
        """Gap over the gap between references, by judged figure."""
        return ratios(self.gaps, self.goal)

    @property
    def failures(self) -> list[str]:
        """How it is not close."""
        if self.broken or not self.gaps:
            seeds = self.broken + len(self.gaps)
            return [f"{self.trouble or 'Not finite.'} ({self.broken} of {seeds} seeds)"]
        return failures(self.gaps, self.goal)

    @property
    def close(self) -> bool:
        """Whether every judged figure is."""
        return not self.failures

    def mean(self, name: str) -> float:
        """Return the mean of a figure over seeds."""
        return mean(g[name] for g in self.gaps)
