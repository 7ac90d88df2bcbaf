# SPDX-License-Identifier: Apache-2.0
"""A training as a graph of checkpoints, each named by a digest of all that it depends on.

Because a node's key covers the plan, its parent and every row of its samples, "forget F" is nothing but
the graph of the samples without F: the nodes that still exist are exactly the checkpoints that never saw
F, and the others are trained. Order, batching and deferring of requests cannot matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from expunge.data.types import Sample
from expunge.exact.hashing import json_digest
from expunge.exact.placement import home
from expunge.exact.plan import Plan
from expunge.exact.schedule import Stage


@dataclass(frozen=True, slots=True)
class Node:
    """One stage to be trained, and the checkpoint that it leaves.

    Attributes:
        key: Digest of plan, parents, place and sample rows.
        phase: ``public``, ``shard`` or ``polish``.
        shard: Shard counted from 0; -1 outside shards.
        stage: Stage counted from 1 (k trains on slices 1..k); 0 outside shards.
        parent: Key of the checkpoint it starts from; None: the initial weights, or for polish the merge.
        schedule: Epochs and learning rate.
        samples: The samples it trains on, sorted by path.
    """

    key: str
    phase: str
    shard: int
    stage: int
    parent: str | None
    schedule: Stage
    samples: tuple[Sample, ...] = field(repr=False)

    @property
    def passes(self) -> int:
        """Image passes: epochs times samples."""
        return self.schedule.epochs * len(self.samples)


@dataclass(frozen=True)
class Graph:
    """The nodes of one training. Shards without a private sample have no node and leave the merge."""

    public: Node | None
    shards: dict[int, tuple[Node, ...]]
    polish: Node | None

    @property
    def nodes(self) -> list[Node]:
        """All nodes, parents first."""
        first = [self.public] if self.public else []
        chains = [node for chain in self.shards.values() for node in chain]
        return first + chains + ([self.polish] if self.polish else [])

    @property
    def passes(self) -> int:
        """Image passes of the whole training."""
        return sum(node.passes for node in self.nodes)


def build_graph(plan: Plan, samples: Iterable[Sample], risks: Mapping[str, float]) -> Graph:
    """Lay out the training of the given training samples under a plan."""
    ordered = sorted((s for s in samples if s.split == "train"), key=lambda s: s.path)
    open_data = tuple(s for s in ordered if s.public)
    cells: dict[int, list[tuple[int, Sample]]] = {}
    for sample in ordered:
        if not sample.public:
            place = home(plan, sample, risks)
            cells.setdefault(place.shard, []).append((place.slice, sample))
    root = json_digest([plan.digest])
    public = None
    if open_data and plan.epochs.public:
        schedule = Stage("public", 0, plan.epochs.public, plan.epochs.public, plan.recipe.lr0, True)
        public = _node("public", -1, 0, None, schedule, open_data, root)
    start = public.key if public else None
    shards = {s: _chain(plan, s, cells[s], open_data, start, root) for s in sorted(cells)}
    shards = {s: chain for s, chain in shards.items() if chain}
    polish = None
    if plan.epochs.polish and shards and plan.aggregate == "average":
        schedule = Stage("polish", 0, plan.epochs.polish, plan.epochs.polish, plan.polish_lr, True)
        parents = json_digest([chain[-1].key for chain in shards.values()])
        node = _node("polish", -1, 0, parents, schedule, tuple(ordered), root)
        polish = Node(node.key, node.phase, node.shard, node.stage, None, node.schedule, node.samples)
    return Graph(public, shards, polish)


def _chain(
    plan: Plan,
    shard: int,
    members: Sequence[tuple[int, Sample]],
    open_data: tuple[Sample, ...],
    start: str | None,
    root: str,
) -> tuple[Node, ...]:
    chain: list[Node] = []
    parent, first, total = start, 0, sum(plan.epochs.stages)
    for k, epochs in enumerate(plan.epochs.stages):
        seen = [sample for slice_, sample in members if slice_ <= k]
        if seen and epochs:  # a stage without samples makes no step
            extra = list(open_data) if plan.replay_public else []
            rows = tuple(sorted([*seen, *extra], key=lambda s: s.path))
            schedule = Stage("shard", first, epochs, total, plan.recipe.lr0, not chain)
            chain.append(_node("shard", shard, k + 1, parent, schedule, rows, root))
            parent = chain[-1].key
        first += epochs
    return tuple(chain)


def _node(
    phase: str,
    shard: int,
    stage: int,
    parent: str | None,
    schedule: Stage,
    samples: tuple[Sample, ...],
    root: str,
) -> Node:
    digest = hashlib.sha256(json.dumps([root, phase, shard, stage, parent]).encode())
    digest.update(rows_digest(samples).encode())
    return Node(digest.hexdigest(), phase, shard, stage, parent, schedule, samples)


def rows_digest(samples: Iterable[Sample]) -> str:
    """Digest of what training reads of the samples: path, bytes, labels, class, and whether public."""
    digest = hashlib.sha256()
    for s in samples:
        row = [s.path, s.image_digest, s.label_digest, s.class_name, s.public]
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def retained_digest(samples: Iterable[Sample]) -> str:
    """Digest of the training samples that a model is a function of, with their subjects."""
    rows = sorted((s for s in samples if s.split == "train"), key=lambda s: s.path)
    subjects = json_digest([list(s.subjects) for s in rows])
    return json_digest([rows_digest(rows), subjects])
