# SPDX-License-Identifier: Apache-2.0
"""Trainings as graphs of checkpoints, each identified by a digest of everything on which it depends.

A node's key covers the plan, its parents and every row of its samples. Erasing F therefore means building the
graph of the samples without F: nodes that exist already are exactly the checkpoints that never used F, and
all others are trained. The order and batching of requests cannot change the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from expunge.data.types import Sample
from expunge.exact.placement import Place, place_sample
from expunge.storage.hashing import json_digest
from expunge.training.plan import Plan
from expunge.training.schedule import Stage


@dataclass(frozen=True, slots=True)
class Node:
    """A stage of the training, and the checkpoint at its end.

    Attributes:
        key: Digest of plan, parents, shard, stage and sample rows.
        phase: ``public``, ``shard`` or ``polish``.
        shard: Shard counted from 0; -1 outside shards.
        stage: Stage counted from 1 (stage k trains on slices 1..k); 0 outside shards.
        parent: Key of the checkpoint from which it starts; None for the initial weights, and for the polish,
            which starts from the merge.
        schedule: Epochs and learning rate.
        samples: The samples on which it trains, sorted by path.
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
        """Number of image passes: epochs times samples."""
        return self.schedule.epochs * len(self.samples)


@dataclass(frozen=True)
class Graph:
    """The nodes of a training. Shards without private samples have no node and are not merged."""

    public: Node | None
    shards: dict[int, tuple[Node, ...]]
    polish: Node | None

    @property
    def nodes(self) -> list[Node]:
        """All nodes, parents before children."""
        first = [self.public] if self.public else []
        chains = [node for chain in self.shards.values() for node in chain]
        return first + chains + ([self.polish] if self.polish else [])

    @property
    def digest(self) -> str:
        """Digest of all nodes, and so of the plan and the retained samples."""
        return json_digest([node.key for node in self.nodes])

    @property
    def passes(self) -> int:
        """Number of image passes of the whole training."""
        return sum(node.passes for node in self.nodes)


def build_graph(plan: Plan, samples: Iterable[Sample], risks: Mapping[str, float]) -> Graph:
    """Return the graph of the training on the given samples under a plan."""
    ordered = sorted((s for s in samples if s.split == "train"), key=lambda s: s.path)
    public_samples = tuple(s for s in ordered if s.public)
    slices: dict[int, dict[int, list[Sample]]] = {}
    homes: dict[tuple[str, ...], Place] = {}
    for sample in ordered:
        if sample.public:
            continue
        place = homes.get(sample.subjects) or place_sample(plan, sample, risks)
        if sample.subjects:
            homes[sample.subjects] = place
        slices.setdefault(place.shard, {}).setdefault(place.slice, []).append(sample)
    builder = _GraphBuilder(plan, public_samples)
    shards = {shard: builder.chain(shard, slices[shard]) for shard in sorted(slices)}
    shards = {shard: chain for shard, chain in shards.items() if chain}
    return Graph(builder.public, shards, builder.polish(shards, tuple(ordered)))


class _GraphBuilder:
    """Builds the nodes of one graph; each sample row is hashed once, however many stages use it."""

    def __init__(self, plan: Plan, public_samples: tuple[Sample, ...]) -> None:
        self.plan, self.public_samples = plan, public_samples
        self.plan_digest = plan.digest
        self.rate = plan.shard_lr or plan.recipe.lr0
        self.public_digest = rows_digest(public_samples)
        self.public: Node | None = None
        if public_samples and plan.epochs.public:
            epochs = plan.epochs.public
            schedule = Stage("public", 0, epochs, epochs, plan.recipe.lr0, True)
            self.public = self._node("public", -1, 0, None, schedule, public_samples, [self.public_digest])

    def chain(self, shard: int, slices: Mapping[int, Sequence[Sample]]) -> tuple[Node, ...]:
        """Return the stages of one shard; stages without samples or epochs have no node."""
        chain: list[Node] = []
        replayed = self.public_samples if self.plan.replay_public else ()
        digests = [self.public_digest] if replayed else []
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
        """Return the polish, whose parents are the last stages of all shards; None if the plan has none."""
        epochs = self.plan.epochs.polish
        if not epochs or not shards or self.plan.aggregate != "average":
            return None
        schedule = Stage("polish", 0, epochs, epochs, self.plan.polish_lr, True)
        ends = [chain[-1].key for chain in shards.values()]
        return self._node("polish", -1, 0, None, schedule, rows, [self.public_digest, *ends])

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
        key = json_digest([self.plan_digest, phase, shard, stage, parent, digests])
        return Node(key, phase, shard, stage, parent, schedule, rows)


def rows_digest(samples: Iterable[Sample]) -> str:
    """Return a digest of what training reads of some samples: path, bytes, labels, class, and ``public``."""
    digest = hashlib.sha256()
    for s in samples:  # no field can contain a NUL, so the joined row is unambiguous
        row = (s.path, s.image_digest, s.label_digest, s.class_name or "", "1" if s.public else "0", "\n")
        digest.update("\0".join(row).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def retained_digest(samples: Iterable[Sample]) -> str:
    """Return a digest of the training samples, with subjects, of a model without a plan."""
    rows = sorted((s for s in samples if s.split == "train"), key=lambda s: s.path)
    return json_digest([rows_digest(rows), [list(s.subjects) for s in rows]])
