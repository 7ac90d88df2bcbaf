# SPDX-License-Identifier: Apache-2.0
"""Placement of samples in shards and slices: a function of the plan and the sample's own subjects only.

Shards and slices as in Bourtoule et al. 2021, "Machine Unlearning" (SISA), section 4. Subjects who are likely
to leave are placed together and last, as in their section 5 (distribution-aware), here by declared risk bins.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from expunge.data.types import Sample
from expunge.storage.hashing import keyed_hash, unit_hash
from expunge.training.plan import Cell, Placement, Plan


class Place(NamedTuple):
    """A slice of a shard, both counted from 0."""

    shard: int
    slice: int


def place_sample(plan: Plan, sample: Sample, risks: Mapping[str, float]) -> Place:
    """Return the slice of a private sample.

    It depends on the subject in the sample's row with the smallest keyed hash, or on the sample's path if it
    has no subject.
    """
    if sample.subjects:
        key_owner = min(sample.subjects, key=lambda s: (keyed_hash(plan.seed, "owner", s), s))
        kind, risk = "subject", risks.get(key_owner, 0.0)
    else:
        key_owner, kind, risk = sample.path, "sample", 0.0
    cells = plan.placement.bins[bisect.bisect_right(plan.placement.risk_edges, risk)]
    return _pick(cells, unit_hash(plan.seed, "home", kind, key_owner))


def _pick(cells: tuple[Cell, ...], position: float) -> Place:
    total = sum(cell.share for cell in cells)
    reached = 0.0
    for cell in cells:
        reached += cell.share / total
        if position < reached:
            return Place(cell.shard, cell.slice)
    return Place(cells[-1].shard, cells[-1].slice)


def uniform_placement(shards: int, slices: int) -> Placement:
    """Return a placement in which every slice of every shard has the same share."""
    cells = tuple(Cell(shard=s, slice=r, share=1.0) for s in range(shards) for r in range(slices))
    return Placement(bins=(cells,))


def risk_placement(shards: int, slices: int, edges: Iterable[float], masses: Iterable[float]) -> Placement:
    """Return a placement in which each risk bin has its own cells.

    The riskiest bin gets the cells that are cheapest to erase, which are the last slices.

    Args:
        shards: Number of shards.
        slices: Number of slices of a shard.
        edges: Ascending bin edges of the risk column.
        masses: Share of all samples in each bin, lowest risk first (counted now, then fixed in the plan).
    """
    order = [(s, r) for r in reversed(range(slices)) for s in reversed(range(shards))]
    size = 1.0 / len(order)
    weights = [max(mass, 1e-6) for mass in masses]
    total = sum(weights)
    bins: list[tuple[Cell, ...]] = []
    index, capacity = 0, size
    for weight in reversed(weights):
        required, cells = weight / total, []
        while required > 1e-12 and index < len(order):
            take = min(required, capacity)
            cells.append(Cell(shard=order[index][0], slice=order[index][1], share=round(take, 6) or 1e-6))
            required, capacity = required - take, capacity - take
            if capacity <= 1e-12:
                index, capacity = index + 1, size
        if not cells:
            cells.append(Cell(shard=order[-1][0], slice=order[-1][1], share=1.0))
        bins.append(tuple(cells))
    return Placement(risk_edges=tuple(edges), bins=tuple(reversed(bins)))
