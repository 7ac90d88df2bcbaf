# SPDX-License-Identifier: Apache-2.0
"""Where a sample lives: a pure function of (plan, its own subjects), never of who else is there.

Shards and slices as in Bourtoule et al. 2021, "Machine Unlearning" (SISA), section 4; placing likely
leavers together and last as in their section 5 (distribution-aware), here by declared risk bins.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from expunge.data.types import Sample
from expunge.exact.hashing import keyed_hash, unit_hash
from expunge.exact.plan import Cell, Placement, Plan


class Home(NamedTuple):
    """A slice of a shard, both counted from 0."""

    shard: int
    slice: int


def home(plan: Plan, sample: Sample, risks: Mapping[str, float]) -> Home:
    """Return the home of a private sample.

    That of the subject in its own row with the smallest keyed hash, or by its own path if it has none.
    """
    if sample.subjects:
        owner = min(sample.subjects, key=lambda s: (keyed_hash(plan.seed, "owner", s), s))
        kind, risk = "subject", risks.get(owner, 0.0)
    else:
        owner, kind, risk = sample.path, "sample", 0.0
    cells = plan.placement.bins[bisect.bisect_right(plan.placement.risk_edges, risk)]
    return _pick(cells, unit_hash(plan.seed, "home", kind, owner))


def _pick(cells: tuple[Cell, ...], position: float) -> Home:
    total = sum(cell.share for cell in cells)
    reached = 0.0
    for cell in cells:
        reached += cell.share / total
        if position < reached:
            return Home(cell.shard, cell.slice)
    return Home(cells[-1].shard, cells[-1].slice)


def uniform(shards: int, slices: int) -> Placement:
    """Every slice of every shard takes the same share."""
    cells = tuple(Cell(shard=s, slice=r, share=1.0) for s in range(shards) for r in range(slices))
    return Placement(bins=(cells,))


def by_risk(shards: int, slices: int, edges: Iterable[float], masses: Iterable[float]) -> Placement:
    """Give each risk bin its own cells, the riskiest those whose forgetting is cheapest (last slices).

    Args:
        shards: Number of shards.
        slices: Number of slices of a shard.
        edges: Ascending bin edges of the risk column.
        masses: Share of all samples in each bin, lowest risk first (today's counts, kept in the plan).
    """
    order = [(s, r) for r in reversed(range(slices)) for s in reversed(range(shards))]
    size = 1.0 / len(order)
    weights = [max(mass, 1e-6) for mass in masses]
    total = sum(weights)
    bins: list[tuple[Cell, ...]] = []
    index, room = 0, size
    for weight in reversed(weights):
        need, cells = weight / total, []
        while need > 1e-12 and index < len(order):
            take = min(need, room)
            cells.append(Cell(shard=order[index][0], slice=order[index][1], share=round(take, 6) or 1e-6))
            need, room = need - take, room - take
            if room <= 1e-12:
                index, room = index + 1, size
        if not cells:
            cells.append(Cell(shard=order[-1][0], slice=order[-1][1], share=1.0))
        bins.append(tuple(cells))
    return Placement(risk_edges=tuple(edges), bins=tuple(reversed(bins)))
