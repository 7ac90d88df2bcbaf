# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints are merged into a published model: for each shard the stage at which it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.exact.graph import Graph
from expunge.exact.merge import average
from expunge.exact.plan import Plan
from expunge.exact.store import CheckpointStore

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Composition:
    """For each shard in the merge its last stage (counted from 1), and whether the polish ran.

    Without a shard it is the public model, or with ``public`` False the initial weights.
    """

    stages: dict[int, int]
    polish: bool = False
    public: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what the catalog and a certificate hold."""
        stages = {str(shard): stage for shard, stage in sorted(self.stages.items())}
        return {"stages": stages, "polish": self.polish, "public": self.public}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Composition:
        """Undo :meth:`as_json`."""
        return cls({int(k): v for k, v in value["stages"].items()}, value["polish"], value["public"])


def final(graph: Graph) -> Composition:
    """Everything trained to its end."""
    stages = {shard: chain[-1].stage for shard, chain in graph.shards.items()}
    return Composition(stages, graph.polish is not None, not stages and graph.public is not None)


def restrict(graph: Graph, composition: Composition) -> Graph:
    """Return the part of a graph that a composition needs, so that it can be trained or replayed."""
    shards = {
        shard: tuple(node for node in graph.shards[shard] if node.stage <= stage)
        for shard, stage in composition.stages.items()
    }
    return Graph(graph.public, shards, graph.polish if composition.polish else None)


def interim_candidates(graph: Graph, store: CheckpointStore, plan: Plan) -> list[Composition]:
    """Return what can be published at once, from checkpoints that exist and never saw what was forgotten.

    First the finished shards alone; then, if some shard stands at an earlier clean checkpoint, all of them;
    without any shard the public model. Empty if nothing trained is left.
    """
    standing = {}
    for shard, chain in graph.shards.items():
        stages = [node.stage for node in chain if store.has(node.key)]
        if stages:
            standing[shard] = stages[-1]
    finished = {s: k for s, k in standing.items() if k == graph.shards[s][-1].stage}
    candidates = []
    if finished and plan.interim != "include":
        candidates.append(Composition(finished))
    if (standing and standing != finished and (plan.interim != "others" or not finished)) or (
        standing and not candidates
    ):
        candidates.append(Composition(standing))
    if not candidates and graph.public and store.has(graph.public.key):
        candidates.append(Composition({}, public=True))
    return candidates


def weights_of(
    graph: Graph, composition: Composition, store: CheckpointStore, initial: Path, plan: Plan
) -> list[dict[str, torch.Tensor]]:
    """Return the deployable weights: one state, or for an ensemble one for each shard."""
    from safetensors.torch import load_file

    from expunge.exact.checkpoint import load_part

    if composition.polish and graph.polish:
        return [load_part(store.path(graph.polish.key), "ema")]
    chosen = [
        node.key
        for shard, stage in sorted(composition.stages.items())
        for node in graph.shards[shard]
        if node.stage == stage
    ]
    if not chosen and composition.public and graph.public:
        chosen = [graph.public.key]
    if not chosen:
        return [load_file(str(initial))]
    states = [load_part(store.path(key), "ema") for key in chosen]
    return states if plan.aggregate == "ensemble" else [average(states)]
