# SPDX-License-Identifier: Apache-2.0
"""The data of an unlearning: forget set, retain set, guard data and unseen data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from expunge.errors import InputError
from expunge.methods.base import GOALS
from expunge.tasks.protocol import Samples

GUARD_SHARE = 0.1
MAX_GUARD = 2000


@dataclass(frozen=True)
class UnlearningData:
    """The data of an unlearning, disjoint by use.

    Attributes:
        forget: The forget set.
        retain: The retain set, without guard data.
        guard: Held-out retained data, by which methods are stopped, rolled back and tuned.
        unseen: Data of the same kind as ``forget`` that no model saw; used for the verdict alone.
        goal: ``sample``, ``subject`` or ``class``.
        guard_seen: Whether the guard data was taken from the retain set, on which the original was trained.
        forget_groups, unseen_groups: Person of each sample; None: unknown, and each sample is its own group.
        classes: Indices of the classes to remove (goal ``class``).
    """

    forget: Samples
    retain: Samples
    guard: Samples
    unseen: Samples
    goal: str = "sample"
    guard_seen: bool = False
    forget_groups: Sequence[str] | None = None
    unseen_groups: Sequence[str] | None = None
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise InputError(
                f"There is no goal '{self.goal}'.",
                "A sample or a subject is untrained, a class is removed.",
                f"Choose one of {', '.join(GOALS)}.",
            )
        if not len(self.forget):
            raise InputError("The forget set is empty.", "Nothing would be forgotten.", "Name samples.")
        if not len(self.retain):
            raise InputError(
                "The retain set is empty.",
                "A model without any data left cannot be kept useful.",
                "Withdraw the model instead.",
            )
        for name, groups, data in (
            ("forget", self.forget_groups, self.forget),
            ("unseen", self.unseen_groups, self.unseen),
        ):
            if groups is not None and len(groups) != len(data):
                raise InputError(
                    f"The groups of the {name} set do not fit.",
                    f"There are {len(groups)} for {len(data)} samples.",
                    "Give one for each sample.",
                )

    @property
    def all_retained(self) -> Samples:
        """The retain set, including guard data that was taken from it."""
        if not self.guard_seen or self.guard is self.retain:
            return self.retain
        return ConcatDataset([self.retain, self.guard])  # type: ignore[list-item]


def guard_count(retained: int) -> int:
    """Return the number of retained samples held back as guard data if there is no validation data."""
    return min(int(retained * GUARD_SHARE), MAX_GUARD)


def with_own_guard(retain: Samples, seed: int) -> tuple[Samples, Samples]:
    """Hold back a tenth of the retain set (at most 2,000 samples) as guard data.

    Returns:
        (retain, guard). With fewer than ten retained samples, the guard data is the retain set itself.
    """
    count = guard_count(len(retain))
    if not count:
        return retain, retain
    order = torch.randperm(len(retain), generator=torch.Generator().manual_seed(seed)).tolist()
    data: torch.utils.data.Dataset[object] = retain  # type: ignore[assignment]
    return Subset(data, sorted(order[count:])), Subset(data, sorted(order[:count]))


def group_numbers(groups: Sequence[str] | None, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the group number of each sample (n,); without groups each sample is its own."""
    if groups is None:
        return np.arange(count, dtype=np.int64)
    numbers = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[name] for name in groups], dtype=np.int64)
