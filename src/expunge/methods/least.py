# SPDX-License-Identifier: Apache-2.0
"""The minimum work with which a method changes a model, computed before it runs.

Passes are counted as in :class:`expunge.methods.base.Budget`. A first batch has ``batch`` samples, or all
samples if there are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FORWARD = 1 / 3  # share of a training pass; a backward pass costs about two forward passes


@dataclass(frozen=True)
class SetSizes:
    """The numbers of samples on which a method works.

    Attributes:
        forget, retain: Number of samples in each set.
    """

    forget: int
    retain: int


@dataclass(frozen=True)
class LeastWork:
    """The work required for a method's first step, in passes of one sample.

    Attributes:
        needed: With less work no step is possible.
        enough: With this work a step is certain; above ``needed`` only if a search decides.
    """

    needed: float
    enough: float


Least = Callable[[SetSizes, Mapping[str, Any]], LeastWork]
"""Returns the minimum work of a method for sizes and hyperparameters (including defaults)."""


def exact_work(passes: float) -> LeastWork:
    """Return the minimum work if it is known exactly."""
    return LeastWork(passes, passes)


def first_batch(count: int, values: Mapping[str, Any], name: str = "batch") -> int:
    """Return the number of samples in the first batch of ``count`` samples."""
    return min(int(values.get(name, 1)), count)


def retain_batch(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of one batch of the retain set."""
    return exact_work(first_batch(sizes.retain, values))


def both_batches(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return the work of one batch of each set."""
    return exact_work(first_batch(sizes.forget, values) + first_batch(sizes.retain, values))


def no_work(sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
    """Return no work, for methods that the budget does not limit."""
    return exact_work(0)
