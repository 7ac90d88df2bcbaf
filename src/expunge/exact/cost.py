# SPDX-License-Identifier: Apache-2.0
"""What erasures cost before they happen, in image passes: epochs times samples, summed over stages.

SISA's expected cost (Bourtoule et al. 2021, section 4 and appendix): K uniform requests touch
1 − (1 − 1/S)^K of S shards. Here it is computed from the plan's own placement, subject by subject.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.data.types import Sample
from expunge.exact.graph import Graph, build_graph
from expunge.exact.plan import Plan

DRAWS = 64


@dataclass(frozen=True)
class Prediction:
    """Costs in units of a full retrain of the same plan.

    Attributes:
        one: Mean over subjects (weighted by risk where given) of forgetting one of them.
        worst: The dearest single subject.
        several: Mean of forgetting ``requests`` subjects together.
        checkpoints: Number of stored checkpoints.
        passes: Image passes of the full training.
    """

    one: float
    worst: float
    several: float
    requests: int
    checkpoints: int
    passes: int


def forget_passes(before: Graph, after: Graph) -> int:
    """Image passes to get from the checkpoints of one graph to the model of another."""
    have = {node.key for node in before.nodes}
    return sum(node.passes for node in after.nodes if node.key not in have)


def share(before: Graph, after: Graph) -> float:
    """Cost of an erasure in units of a retrain on what is retained."""
    return round(forget_passes(before, after) / max(after.passes, 1), 6)


def predict(
    plan: Plan, samples: Sequence[Sample], risks: Mapping[str, float], requests: int = 1
) -> Prediction:
    """Predict what erasures will cost under a plan (a sample stands for itself if it has no subject)."""
    train = [s for s in samples if s.split == "train"]
    graph = build_graph(plan, train, risks)
    units = _units(train)
    names = sorted(units)
    costs = {name: _cost(plan, train, risks, graph, units[name]) for name in names[: 8 * DRAWS]}
    weight = {name: max(risks.get(name, 0.0), 1e-3) if risks else 1.0 for name in costs}
    total = sum(weight.values()) or 1.0
    one = sum(costs[n] * weight[n] for n in costs) / total
    generator = random.Random(plan.seed)
    several = []
    for _ in range(DRAWS if requests > 1 else 0):
        chosen = set(generator.choices(list(costs), [weight[n] for n in costs], k=requests))
        several.append(_cost(plan, train, risks, graph, set().union(*(units[n] for n in chosen))))
    mean = sum(several) / len(several) if several else one
    worst = max(costs.values(), default=0.0)
    return Prediction(
        round(one, 4), round(worst, 4), round(mean, 4), requests, len(graph.nodes), graph.passes
    )


def _units(train: Sequence[Sample]) -> dict[str, set[str]]:
    units: dict[str, set[str]] = {}
    for sample in train:
        if not sample.public:
            for name in sample.subjects or (sample.path,):
                units.setdefault(name, set()).add(sample.path)
    return units


def _cost(
    plan: Plan, train: Sequence[Sample], risks: Mapping[str, float], graph: Graph, paths: set[str]
) -> float:
    return share(graph, build_graph(plan, [s for s in train if s.path not in paths], risks))
