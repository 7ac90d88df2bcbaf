# SPDX-License-Identifier: Apache-2.0
"""What tunes a method and what judges it: two types, made of two halves, so that they cannot be mistaken.

The functions that look for a method's strength take a :class:`Tuning`, the judge takes a :class:`Judging`.
Where a method is tuned, the people of the forget set (or its samples) are divided between the two; held-out
data are apart anyway: ``guard`` tunes, ``unseen`` judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Subset

from expunge.tasks.protocol import Samples
from expunge.unlearning.material import Material, group_numbers


@dataclass(frozen=True)
class Tuning:
    """What a method's strength may be looked for by.

    Attributes:
        forget: The tuning half of the forget set.
        guard: Held-out retained data.
        guard_seen: The guard was taken from what the original was trained on: it cannot tell anything.
        goal, classes: See :class:`~expunge.unlearning.material.Material`.
    """

    forget: Samples
    guard: Samples
    guard_seen: bool
    goal: str
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Judging:
    """What a verdict rests on.

    Attributes:
        forget: The whole forget set, for metrics.
        rows: Which of its samples judge.
        retain: The retain set, for metrics.
        unseen: Held-out data that judges, and nothing else.
        utility: On what the utility is judged: ``unseen``, or the guard where there is none.
        forget_groups, unseen_groups, goal, classes: See :class:`~expunge.unlearning.material.Material`.
    """

    forget: Samples
    rows: tuple[int, ...]
    retain: Samples
    unseen: Samples
    utility: Samples
    forget_groups: Sequence[str] | None
    unseen_groups: Sequence[str] | None
    goal: str
    classes: tuple[int, ...]


def divide(material: Material, tuned: bool, seed: int) -> tuple[Tuning, Judging]:
    """Return what tunes and what judges.

    Args:
        material: All data.
        tuned: Whether a strength will be looked for; if not, the whole forget set judges.
        seed: Of the division.
    """
    everything = range(len(material.forget))
    half = set(_half(material, seed)) if tuned else set()
    tuning = Tuning(
        Subset(material.forget, sorted(half)) if tuned else material.forget,  # type: ignore[arg-type]
        material.guard,
        material.guard_seen,
        material.goal,
        material.classes,
    )
    judging = Judging(
        material.forget,
        tuple(i for i in everything if i not in half),
        material.retain,
        material.unseen,
        material.unseen if len(material.unseen) else material.guard,
        material.forget_groups,
        material.unseen_groups,
        material.goal,
        material.classes,
    )
    return tuning, judging


def _half(material: Material, seed: int) -> list[int]:
    """Indices of the tuning half: half of the people, or of the samples where there is but one person."""
    count = len(material.forget)
    groups = group_numbers(material.forget_groups, count)
    people = sorted(set(groups.tolist()))
    if len(people) == 1:
        groups, people = group_numbers(None, count), list(range(count))
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {people[i] for i in order[: len(people) // 2]}
    return [i for i, group in enumerate(groups.tolist()) if group in chosen]
