# SPDX-License-Identifier: Apache-2.0
"""Prediction of erasure costs in image passes: epochs times samples, summed over stages.

The expected cost of SISA (Bourtoule et al. 2021, section 4 and appendix) assumes that K uniform requests
touch 1 − (1 − 1/S)^K of S shards. Here it is computed per subject from the plan's placement.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.data.types import Sample
from expunge.exact.graph import Graph, build_graph
from expunge.training.plan import Plan

DRAWS = 64


@dataclass(frozen=True)
class Prediction:
    """Predicted costs, as fractions of a full retrain under the same plan.

    Attributes:
        one: Mean cost of erasing one subject, weighted by risk where given.
        worst: Cost of the most expensive subject.
        several: Mean cost of erasing ``requests`` subjects together.
        requests: Number of subjects in ``several``.
        checkpoints: Number of stored checkpoints.
        passes: Image passes of the full training.
    """

    one: float
    worst: float
    several: float
    requests: int
    checkpoints: int
    passes: int


def erasure_passes(before: Graph, after: Graph) -> int:
    """Return the image passes that complete one graph with the checkpoints of another.

    Args:
        before: The graph whose checkpoints exist.
        after: The graph to complete.
    """
    existing = {node.key for node in before.nodes}
    return sum(node.passes for node in after.nodes if node.key not in existing)


def relative_cost(before: Graph, after: Graph) -> float:
    """Return the cost of an erasure as a fraction of a retrain on the retained samples."""
    return round(erasure_passes(before, after) / max(after.passes, 1), 6)


def predict_costs(
    plan: Plan, samples: Sequence[Sample], risks: Mapping[str, float], requests: int = 1
) -> Prediction:
    """Return the predicted costs of erasures under a plan.

    A sample without a subject counts as a subject of its own.

    Args:
        plan: The plan.
        samples: The samples of the dataset version.
        risks: Risk of leaving by subject.
        requests: Number of subjects that are erased together.
    """
    train = [s for s in samples if s.split == "train"]
    graph = build_graph(plan, train, risks)
    paths_of = _paths_by_subject(train)
    names = sorted(paths_of)
    costs = {name: _erasure_cost(plan, train, risks, graph, paths_of[name]) for name in names[: 8 * DRAWS]}
    weight = {name: max(risks.get(name, 0.0), 1e-3) if risks else 1.0 for name in costs}
    total = sum(weight.values()) or 1.0
    one = sum(costs[n] * weight[n] for n in costs) / total
    generator = random.Random(plan.seed)
    several = []
    for _ in range(DRAWS if requests > 1 else 0):
        chosen = set(generator.choices(list(costs), [weight[n] for n in costs], k=requests))
        several.append(_erasure_cost(plan, train, risks, graph, set().union(*(paths_of[n] for n in chosen))))
    mean = sum(several) / len(several) if several else one
    worst = max(costs.values(), default=0.0)
    return Prediction(
        round(one, 4), round(worst, 4), round(mean, 4), requests, len(graph.nodes), graph.passes
    )


def _paths_by_subject(train: Sequence[Sample]) -> dict[str, set[str]]:
    paths_of: dict[str, set[str]] = {}
    for sample in train:
        if not sample.public:
            for name in sample.subjects or (sample.path,):
                paths_of.setdefault(name, set()).add(sample.path)
    return paths_of


def _erasure_cost(
    plan: Plan, train: Sequence[Sample], risks: Mapping[str, float], graph: Graph, paths: set[str]
) -> float:
    return relative_cost(graph, build_graph(plan, [s for s in train if s.path not in paths], risks))
