# SPDX-License-Identifier: Apache-2.0
"""A training as a graph of checkpoints, each named by a digest of all that it depends on.

Because a node's key covers the plan, its parent and every row of its samples, "forget F" is nothing but
the graph of the samples without F: the nodes that still exist are exactly the checkpoints that never saw
F, and the others are trained. Order, batching and deferring of requests cannot matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from expunge.data.types import Sample
from expunge.exact.hashing import json_digest
from expunge.exact.placement import Home, home
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
    def digest(self) -> str:
        """Digest of all nodes: of the retained samples under the plan."""
        return json_digest([node.key for node in self.nodes])

    @property
    def passes(self) -> int:
        """Image passes of the whole training."""
        return sum(node.passes for node in self.nodes)


def build_graph(plan: Plan, samples: Iterable[Sample], risks: Mapping[str, float]) -> Graph:
    """Lay out the training of the given training samples under a plan."""
    ordered = sorted((s for s in samples if s.split == "train"), key=lambda s: s.path)
    open_data = tuple(s for s in ordered if s.public)
    slices: dict[int, dict[int, list[Sample]]] = {}
    homes: dict[tuple[str, ...], Home] = {}
    for sample in ordered:
        if sample.public:
            continue
        place = homes.get(sample.subjects) or home(plan, sample, risks)
        if sample.subjects:
            homes[sample.subjects] = place
        slices.setdefault(place.shard, {}).setdefault(place.slice, []).append(sample)
    maker = _Maker(plan, open_data)
    shards = {shard: maker.chain(shard, slices[shard]) for shard in sorted(slices)}
    shards = {shard: chain for shard, chain in shards.items() if chain}
    return Graph(maker.public, shards, maker.polish(shards, tuple(ordered)))


class _Maker:
    """Makes the nodes of one graph; every row is digested once, however many stages see it."""

    def __init__(self, plan: Plan, open_data: tuple[Sample, ...]) -> None:
        self.plan, self.open_data = plan, open_data
        self.root = plan.digest
        self.rate = plan.shard_lr or plan.recipe.lr0
        self.open_digest = rows_digest(open_data)
        self.public: Node | None = None
        if open_data and plan.epochs.public:
            epochs = plan.epochs.public
            schedule = Stage("public", 0, epochs, epochs, plan.recipe.lr0, True)
            self.public = self._node("public", -1, 0, None, schedule, open_data, [self.open_digest])

    def chain(self, shard: int, slices: Mapping[int, Sequence[Sample]]) -> tuple[Node, ...]:
        """Return the stages of one shard; a stage without samples makes no step."""
        chain: list[Node] = []
        replayed = self.open_data if self.plan.replay_public else ()
        digests = [self.open_digest] if replayed else []
        rows: list[Sample] = list(replayed)
        parent = self.public.key if self.public else None
        first, total, private = 0, sum(self.plan.epochs.stages), False
        for k, epochs in enumerate(self.plan.epochs.stages):
            if added := slices.get(k):
                private = True
                rows = sorted([*rows, *added], key=lambda s: s.path)
                digests = [*digests, rows_digest(added)]
            if private and epochs:
                schedule = Stage("shard", first, epochs, total, self.rate, not chain)
                chain.append(self._node("shard", shard, k + 1, parent, schedule, tuple(rows), digests))
                parent = chain[-1].key
            first += epochs
        return tuple(chain)

    def polish(self, shards: Mapping[int, tuple[Node, ...]], rows: tuple[Sample, ...]) -> Node | None:
        """Return the joint polish, whose parents are the ends of all shards."""
        epochs = self.plan.epochs.polish
        if not epochs or not shards or self.plan.aggregate != "average":
            return None
        schedule = Stage("polish", 0, epochs, epochs, self.plan.polish_lr, True)
        ends = [chain[-1].key for chain in shards.values()]
        return self._node("polish", -1, 0, None, schedule, rows, [self.open_digest, *ends])

    def _node(
        self,
        phase: str,
        shard: int,
        stage: int,
        parent: str | None,
        schedule: Stage,
        rows: tuple[Sample, ...],
        digests: list[str],
    ) -> Node:
        key = json_digest([self.root, phase, shard, stage, parent, digests])
        return Node(key, phase, shard, stage, parent, schedule, rows)


def rows_digest(samples: Iterable[Sample]) -> str:
    """Digest of what training reads of the samples: path, bytes, labels, class, and whether public."""
    digest = hashlib.sha256()
    for s in samples:  # no field can hold a NUL, so the joint is unambiguous
        row = (s.path, s.image_digest, s.label_digest, s.class_name or "", "1" if s.public else "0", "\n")
        digest.update("\0".join(row).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def retained_digest(samples: Iterable[Sample]) -> str:
    """Digest of the training samples that a model without a plan saw, with their subjects."""
    rows = sorted((s for s in samples if s.split == "train"), key=lambda s: s.path)
    return json_digest([rows_digest(rows), [list(s.subjects) for s in rows]])
