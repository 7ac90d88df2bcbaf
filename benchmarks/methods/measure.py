# SPDX-License-Identifier: Apache-2.0
"""Figures of one model, its distance to references, and the rule for "close".

Judged are the metric on forget, retain and test set and, unless the goal is to remove a class, the distance
between the distributions of the forget set's losses (Wasserstein-1). A figure is close if its gap to the mean
of the references is at most ``CLOSE`` times the gap between references; both are averaged over the seeds.
Where references differ by less than one sample of the set, one sample is taken as their gap: less cannot be
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp, rankdata, wasserstein_distance
from torch import nn

from benchmarks.methods.worlds import World
from expunge.tasks.protocol import Samples, Task

CLOSE = 2.0
PARTS = ("forget", "retain", "test")
BATCH = 64
Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """What one model says.

    Attributes:
        metrics: The task's main metric by part, ``unseen`` included; for detection in 0–1 as well.
        losses: Of every sample of the forget set (n,), in its order.
        auc: How often a sample of the forget set has a lower loss than an unseen one: 0.5 is no trace.
    """

    metrics: dict[str, float]
    losses: Losses
    auc: float

    def as_json(self) -> dict[str, Any]:
        """Return what a line of the results holds."""
        return {
            "metrics": {k: round(v, 5) for k, v in self.metrics.items()},
            "losses": [float(f"{v:.4g}") for v in self.losses],
            "auc": round(self.auc, 4),
        }

    @classmethod
    def of(cls, line: dict[str, Any]) -> Figures:
        """Return what a line of the results holds."""
        return cls(line["metrics"], np.array(line["losses"], dtype=float), line["auc"])


@torch.no_grad()
def losses(task: Task, model: nn.Module, data: Samples) -> Losses:
    """Return the loss of every sample (n,)."""
    found = [
        task.loss(model, task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))]))
        for start in range(0, len(data), BATCH)
    ]
    return torch.cat(found).double().cpu().numpy()


def measure(task: Task, model: nn.Module, world: World) -> Figures:
    """Return the figures of a model."""
    ready = task.clone(model)
    sets = {"forget": world.forget, "retain": world.retain, "test": world.test, "unseen": world.unseen}
    metrics = {name: float(task.evaluate(ready, data)[task.metric]) for name, data in sets.items()}
    forgotten = losses(task, ready, world.forget)
    return Figures(metrics, forgotten, auc(forgotten, losses(task, ready, world.unseen)))


def auc(forgotten: Losses, unseen: Losses) -> float:
    """Return the share of pairs in which the forgotten sample has the lower loss; ties count half."""
    ranks = rankdata(np.concatenate([forgotten, unseen]))
    m, n = len(forgotten), len(unseen)
    return float(1 - (ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def judged(goal: str) -> tuple[str, ...]:
    """Return the figures that count for a goal."""
    return PARTS if goal == "class" else (*PARTS, "losses")


def compare(candidate: Figures, references: Sequence[Figures], sizes: dict[str, int]) -> dict[str, float]:
    """Return signed gaps, gaps between references (``null_…``) and the tug-of-war score.

    Args:
        candidate: A model.
        references: At least two that never saw the forget set; not the candidate.
        sizes: Samples of each part.
    """
    found: dict[str, float] = {}
    for part in PARTS:
        values = np.array([r.metrics[part] for r in references])
        others = (values.sum() - values) / (len(values) - 1)
        found[part] = candidate.metrics[part] - values.mean()
        found[f"null_{part}"] = max(float(np.abs(values - others).mean()), 1 / sizes[part])
    pairs = [(a, b) for i, a in enumerate(references) for b in references[i + 1 :]]
    for name, distance in (("losses", wasserstein_distance), ("ks", _ks)):
        found[name] = float(np.mean([distance(candidate.losses, r.losses) for r in references]))
        found[f"null_{name}"] = float(np.mean([distance(a.losses, b.losses) for a, b in pairs]))
    found["mean_loss"] = float(candidate.losses.mean() - np.mean([r.losses.mean() for r in references]))
    found["auc"] = candidate.auc
    found["references_auc"] = float(np.mean([r.auc for r in references]))
    # Zhao et al.: What makes unlearning hard and what to do about it. NeurIPS 2024
    found["tug_of_war"] = float(np.prod([1 - abs(found[part]) for part in PARTS]))
    found["references_tug_of_war"] = float(np.prod([1 - found[f"null_{part}"] for part in PARTS]))
    return found


def _ks(a: Losses, b: Losses) -> float:
    return float(ks_2samp(a, b, method="asymp").statistic)


def ratios(gaps: Sequence[dict[str, float]], goal: str) -> dict[str, float]:
    """Return for each judged figure the gap over the gap between references, both averaged over seeds."""
    return {
        name: float(np.mean([abs(g[name]) for g in gaps]) / np.mean([g[f"null_{name}"] for g in gaps]))
        for name in judged(goal)
    }


def failures(gaps: Sequence[dict[str, float]], goal: str) -> list[str]:
    """Return how a model (over seeds) is not close; nothing if it is."""
    far = ratios(gaps, goal)

    def mean(name: str) -> float:
        return float(np.mean([g[name] for g in gaps]))

    words = []
    if far["forget"] > CLOSE:
        words.append("under-forgetting" if mean("forget") > 0 else "over-forgetting")
    if far.get("losses", 0.0) > CLOSE:
        word = "under-forgetting" if mean("mean_loss") < 0 else "over-forgetting"
        words.append(f"{word} (losses)")
    for part in ("retain", "test"):
        if far[part] > CLOSE:
            words.append(f"{part} {'lower' if mean(part) < 0 else 'higher'}")
    return words
