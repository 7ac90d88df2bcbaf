# SPDX-License-Identifier: Apache-2.0
"""The least work with which a method changes anything, known before it runs.

Passes are counted as in :class:`expunge.methods.base.Budget`. A first batch has ``batch`` samples, or all
samples where there are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FORWARD = 1 / 3  # of a training pass: a backward pass costs about two forward ones


@dataclass(frozen=True)
class Sizes:
    """How many samples a method works on.

    Attributes:
        forget, retain: Samples in each set.
    """

    forget: int
    retain: int


@dataclass(frozen=True)
class LeastWork:
    """What a method needs for its first step, in passes of one sample.

    Attributes:
        needed: With less no step is possible.
        enough: With as much a step is made. More than ``needed`` only where a search decides.
    """

    needed: float
    enough: float


Least = Callable[[Sizes, Mapping[str, Any]], LeastWork]
"""Returns the least work of a method for sizes and hyper-parameters (defaults included)."""


def exactly(passes: float) -> LeastWork:
    """Return the least work where it is known exactly."""
    return LeastWork(passes, passes)


def first(count: int, values: Mapping[str, Any], name: str = "batch") -> int:
    """Return the samples of the first batch over ``count`` samples."""
    return min(int(values.get(name, 1)), count)


def retain_batch(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return one batch of the retain set."""
    return exactly(first(sizes.retain, values))


def both_batches(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return one batch of either set."""
    return exactly(first(sizes.forget, values) + first(sizes.retain, values))


def nothing(sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
    """Return no work: the method is not bound by the budget."""
    return exactly(0)
