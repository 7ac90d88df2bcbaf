# SPDX-License-Identifier: Apache-2.0
"""Data for tuning a method and data for its verdict, as two types that cannot be confused.

Functions that tune a method's strength take a :class:`TuningSplit`, audits take an :class:`EvalSplit`. If a
method is tuned, the people of the forget set (or its samples) are divided between the two. Of the held-out
data, ``guard`` is for tuning and ``unseen`` for the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Subset

from expunge.audits.unlearning_data import UnlearningData, group_numbers
from expunge.tasks.protocol import Samples


@dataclass(frozen=True)
class TuningSplit:
    """Data for tuning a method's strength.

    Attributes:
        forget: The tuning half of the forget set.
        guard: Held-out retained data.
        guard_seen: Whether the original was trained on the guard data, which then cannot be used for tuning.
        goal, classes: See :class:`~expunge.audits.unlearning_data.UnlearningData`.
    """

    forget: Samples
    guard: Samples
    guard_seen: bool
    goal: str
    classes: tuple[int, ...]


@dataclass(frozen=True)
class EvalSplit:
    """Data for the verdict.

    Attributes:
        forget: The whole forget set, for metrics.
        rows: Indices of its samples that are used for the verdict.
        retain: The retain set, for metrics.
        unseen: Held-out data, used for the verdict alone.
        utility: Data for the utility: ``unseen``, or the guard data if there is none.
        forget_groups, unseen_groups, goal, classes: See
            :class:`~expunge.audits.unlearning_data.UnlearningData`.
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


def divide(material: UnlearningData, tuned: bool, seed: int) -> tuple[TuningSplit, EvalSplit]:
    """Return the data for tuning and the data for the verdict.

    Args:
        material: All data.
        tuned: Whether the strength will be tuned; if not, the verdict uses the whole forget set.
        seed: Seed of the division.
    """
    everything = range(len(material.forget))
    half = set(_half(material, seed)) if tuned else set()
    tuning = TuningSplit(
        Subset(material.forget, sorted(half)) if tuned else material.forget,  # type: ignore[arg-type]
        material.guard,
        material.guard_seen,
        material.goal,
        material.classes,
    )
    judging = EvalSplit(
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


def _half(material: UnlearningData, seed: int) -> list[int]:
    """Return the indices of half of the people; of half of the samples, if there is only one person."""
    count = len(material.forget)
    groups = group_numbers(material.forget_groups, count)
    people = sorted(set(groups.tolist()))
    if len(people) == 1:
        groups, people = group_numbers(None, count), list(range(count))
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {people[i] for i in order[: len(people) // 2]}
    return [i for i, group in enumerate(groups.tolist()) if group in chosen]
