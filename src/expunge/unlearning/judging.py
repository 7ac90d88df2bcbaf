# SPDX-License-Identifier: Apache-2.0
"""Scores models on the data that judges, and hands the scores to the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Subset

from expunge.audit.gate import Losses, judge, judge_absence
from expunge.audit.scores import Scores
from expunge.audit.verdict import Utility, Verdict
from expunge.tasks.protocol import Batch, Samples, Task
from expunge.unlearning.material import Material, group_numbers

BATCH = 32
MOST = 2000  # samples of a part that are scored: enough for its figures, however large the data is
Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scored:
    """What one model says of the judging data: metrics and losses by part."""

    metrics: Metrics
    losses: dict[str, Scores]


@torch.no_grad()
def losses_of(
    task: Task, model: nn.Module, data: Samples, change: Callable[[Batch], Batch] = lambda batch: batch
) -> Scores:
    """Return the loss of every sample (n,); ``change`` may alter the batches on their way."""
    found = [
        task.loss(model, change(task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])))
        for start in range(0, len(data), BATCH)
    ]
    return torch.cat(found).double().cpu().numpy() if found else np.zeros(0)


@torch.no_grad()
def named_of(task: Task, model: nn.Module, data: Samples, classes: Sequence[int]) -> NDArray[np.bool_]:
    """Return for every sample (n,) whether the model names one of the classes."""
    found = [
        task.predicts(model, task.collate([data[i] for i in range(s, min(s + BATCH, len(data)))]), classes)
        for s in range(0, len(data), BATCH)
    ]
    return torch.cat(found).cpu().numpy()


class Judge:
    """Judges candidates for one unlearning by data that no method gets to see.

    Args:
        task: Scores.
        original: The model before, ready to be asked.
        material: The data.
        allowed_drop: By how much the main metric on the guard data may fall.
        before: That metric of the original.
        tests: How many candidates may be judged in all.
    """

    def __init__(
        self,
        task: Task,
        original: nn.Module,
        material: Material,
        *,
        allowed_drop: float,
        before: float,
        tests: int,
        seed: int,
    ) -> None:
        self._task, self._material, self._drop = task, material, allowed_drop
        self._before, self._tests, self._seed = before, tests, seed
        self._parts = {
            "forget": material.forget,
            "retain": _some(material.retain, seed),
            "test": material.unseen,
        }
        self.original = self.score(original)

    def score(self, model: nn.Module) -> Scored:
        """Return metrics and losses of a model."""
        metrics: Metrics = {}
        losses: dict[str, Scores] = {}
        for name, data in self._parts.items():
            losses[name] = losses_of(self._task, model, data)
            metrics[name] = {**self._task.evaluate(model, data), "n": len(data)} if len(data) else {}
            if len(data):
                metrics[name]["mean_loss"] = float(losses[name].mean())
        return Scored(metrics, losses)

    def verdict(self, model: nn.Module, scored: Scored) -> Verdict:
        """Return the verdict on a candidate that was scored."""
        task, material = self._task, self._material
        after = task.evaluate(model, material.guard)[task.metric]
        utility = Utility(self._before, after, self._drop, task.metric, len(material.guard))
        if material.goal == "class":
            return judge_absence(
                named_of(task, model, material.forget, material.classes), utility, tests=self._tests
            )
        return judge(
            self._losses(scored, "forget", material.forget_groups),
            self._losses(scored, "test", material.unseen_groups),
            utility,
            tests=self._tests,
            seed=self._seed,
        )

    def warnings(self, scored: Scored) -> list[str]:
        """Return what a reader should know of a candidate besides its verdict."""
        if self._material.goal == "class" or not len(self._material.unseen):
            return []
        forget, unseen = scored.losses["forget"], scored.losses["test"]
        margin = 2 * np.sqrt(forget.var() / len(forget) + unseen.var() / len(unseen))
        if forget.mean() > unseen.mean() + margin:
            return [
                f"Over-forgetting: the mean loss on the forgotten ({forget.mean():.3f}) is above that on "
                f"unseen data ({unseen.mean():.3f}), which itself gives the forgotten away."
            ]
        return []

    def _losses(self, scored: Scored, part: str, groups: Sequence[str] | None) -> Losses:
        before, after = self.original.losses[part], scored.losses[part]
        return Losses(before, after, group_numbers(groups, len(after)))


def _some(data: Samples, seed: int) -> Samples:
    if len(data) <= MOST:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:MOST]
    return Subset(data, sorted(order.tolist()))  # type: ignore[arg-type]
