# SPDX-License-Identifier: Apache-2.0
"""Compositions: the checkpoints that are merged into a published model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.exact.graph import Graph
from expunge.exact.merge import average
from expunge.exact.store import CheckpointStore
from expunge.training.plan import Plan

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Composition:
    """The stages from which a model is merged.

    Without shards it is the public model if ``public`` is set, else the initial weights.

    Attributes:
        stages: For each merged shard its last stage, counted from 1.
        polish: Whether the polish ran.
        public: Whether it is the public model.
    """

    stages: dict[int, int]
    polish: bool = False
    public: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the composition as stored in the catalog and in certificates."""
        stages = {str(shard): stage for shard, stage in sorted(self.stages.items())}
        return {"stages": stages, "polish": self.polish, "public": self.public}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Composition:
        """Return the composition from the result of :meth:`as_json`."""
        return cls({int(k): v for k, v in value["stages"].items()}, value["polish"], value["public"])


def complete_composition(graph: Graph) -> Composition:
    """Return the composition of a complete training."""
    stages = {shard: chain[-1].stage for shard, chain in graph.shards.items()}
    return Composition(stages, graph.polish is not None, not stages and graph.public is not None)


def restrict(graph: Graph, composition: Composition) -> Graph:
    """Return the part of a graph on which a composition depends."""
    shards = {
        shard: tuple(node for node in graph.shards[shard] if node.stage <= stage)
        for shard, stage in composition.stages.items()
    }
    return Graph(graph.public, shards, graph.polish if composition.polish else None)


def interim_candidates(graph: Graph, store: CheckpointStore, plan: Plan) -> list[Composition]:
    """Return the compositions of existing, clean checkpoints that can be published immediately.

    The first candidate merges the finished shards only. If a shard has only an earlier checkpoint, the second
    candidate merges all shards. Without any shard it is the public model. Empty if no checkpoint is left.
    """
    available = {}
    for shard, chain in graph.shards.items():
        stages = [node.stage for node in chain if store.has(node.key)]
        if stages:
            available[shard] = stages[-1]
    finished = {s: k for s, k in available.items() if k == graph.shards[s][-1].stage}
    candidates = []
    if finished and plan.interim != "include":
        candidates.append(Composition(finished))
    if (available and available != finished and (plan.interim != "others" or not finished)) or (
        available and not candidates
    ):
        candidates.append(Composition(available))
    if not candidates and graph.public and store.has(graph.public.key):
        candidates.append(Composition({}, public=True))
    return candidates


def weights_of(
    graph: Graph, composition: Composition, store: CheckpointStore, initial: Path, plan: Plan
) -> list[dict[str, torch.Tensor]]:
    """Return the deployable weights of a composition: one state, or one per shard for an ensemble."""
    from safetensors.torch import load_file

    from expunge.training.checkpoint import load_part

    if composition.polish and graph.polish:
        return [load_part(store.path(graph.polish.key), "ema")]
    keys = [
        node.key
        for shard, stage in sorted(composition.stages.items())
        for node in graph.shards[shard]
        if node.stage == stage
    ]
    if not keys and composition.public and graph.public:
        keys = [graph.public.key]
    if not keys:
        return [load_file(str(initial))]
    states = [load_part(store.path(key), "ema") for key in keys]
    return states if plan.aggregate == "ensemble" else [average(states)]
