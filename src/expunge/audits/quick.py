# SPDX-License-Identifier: Apache-2.0
"""Audit candidates of a running unlearning, without references (level ``quick``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Subset

from expunge.audits.gate import Losses, judge, judge_absence
from expunge.audits.scores import Scores
from expunge.audits.splits import EvalSplit
from expunge.audits.unlearning_data import group_numbers
from expunge.audits.verdict import Utility, Verdict
from expunge.tasks.protocol import Batch, Samples, Task
from expunge.tasks.targets import classes_in_targets

BATCH = 32
MAX_RETAINED = 2000  # retained samples that are scored, for metrics
Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scored:
    """Metrics and losses of one model by part (``forget``, ``retain``, ``test``)."""

    metrics: Metrics
    losses: dict[str, Scores]


@torch.no_grad()
def losses_of(
    task: Task, model: nn.Module, data: Samples, change: Callable[[Batch], Batch] = lambda batch: batch
) -> Scores:
    """Return the loss of each sample (n,); ``change`` is applied to each batch first."""
    found = [
        task.loss(model, change(task.collate([data[i] for i in range(start, min(start + BATCH, len(data)))])))
        for start in range(0, len(data), BATCH)
    ]
    return torch.cat(found).double().cpu().numpy() if found else np.zeros(0)


@torch.no_grad()
def named_of(task: Task, model: nn.Module, data: Samples, classes: Sequence[int]) -> NDArray[np.bool_]:
    """Return for each sample (n,) whether the model predicts one of the classes."""
    found = [
        task.predicts(model, task.collate([data[i] for i in range(s, min(s + BATCH, len(data)))]), classes)
        for s in range(0, len(data), BATCH)
    ]
    return torch.cat(found).cpu().numpy()


class QuickAudit:
    """Audits the candidates of one unlearning on data that no method sees.

    Args:
        task: Task of the models.
        original: The model before the erasure, in evaluation mode.
        judging: The data; see :func:`~expunge.audits.splits.divide`.
        allowed_drop: Maximum drop of the main metric.
        tests: Maximum number of candidates that are audited (Bonferroni).
        seed: Seed of the choice of retained samples and of resampling.
    """

    def __init__(
        self,
        task: Task,
        original: nn.Module,
        judging: EvalSplit,
        *,
        allowed_drop: float,
        tests: int,
        seed: int,
    ) -> None:
        self._task, self._judging, self._drop = task, judging, allowed_drop
        self._tests, self._seed = tests, seed
        self._before = task.evaluate(original, judging.utility)[task.metric]
        self._parts = {
            "forget": judging.forget,
            "retain": _subsample(judging.retain, seed),
            "test": judging.unseen,
        }
        self.original = self.score(original)
        self._rows = list(judging.rows)
        if judging.goal == "class":  # absence is judged on samples that show the class
            shown = classes_in_targets(task, judging.forget, judging.classes)
            self._rows = [row for row in self._rows if shown is None or shown[row].any()]
        self._named = self._named_by(original) if judging.goal == "class" else None

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
        """Return the verdict on a scored candidate."""
        task, judging = self._task, self._judging
        after = task.evaluate(model, judging.utility)[task.metric]
        utility = Utility(self._before, after, self._drop, task.metric, len(judging.utility))
        if self._named is not None:
            return judge_absence(self._named_by(model), utility, original=self._named, tests=self._tests)
        rows = np.array(judging.rows)
        return judge(
            self._losses(scored, "forget", judging.forget_groups, rows),
            self._losses(scored, "test", judging.unseen_groups, np.arange(len(judging.unseen))),
            utility,
            tests=self._tests,
            seed=self._seed,
        )

    def same(self, scored: Scored) -> bool:
        """Return whether a candidate has the loss of the original on every sample of the forget set."""
        return bool(np.array_equal(scored.losses["forget"], self.original.losses["forget"]))

    def warnings(self, scored: Scored) -> list[str]:
        """Return warnings on a candidate in addition to its verdict."""
        if self._judging.goal == "class" or not len(self._judging.unseen):
            return []
        forget, unseen = scored.losses["forget"], scored.losses["test"]
        margin = 2 * np.sqrt(forget.var() / len(forget) + unseen.var() / len(unseen))
        before = self.original.losses["forget"].mean() - self.original.losses["test"].mean()
        # A forget set that is harder under the original is no sign of over-forgetting.
        if forget.mean() - unseen.mean() > max(before, 0.0) + margin:
            return [
                f"Over-forgetting: the mean loss on the forgotten ({forget.mean():.3f}) is above that on "
                f"unseen data ({unseen.mean():.3f}), which itself identifies the forgotten."
            ]
        return []

    def _named_by(self, model: nn.Module) -> NDArray[np.bool_]:
        """Return for each judged sample of the forget set whether a model predicts one of the classes."""
        judging = self._judging
        named = named_of(self._task, model, judging.forget, judging.classes)
        return named[self._rows]

    def _losses(
        self, scored: Scored, part: str, groups: Sequence[str] | None, rows: NDArray[np.int64]
    ) -> Losses:
        before, after = self.original.losses[part], scored.losses[part]
        return Losses(before[rows], after[rows], group_numbers(groups, len(after))[rows])


def _subsample(data: Samples, seed: int) -> Samples:
    """Return at most MAX_RETAINED random samples."""
    if len(data) <= MAX_RETAINED:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:MAX_RETAINED]
    return Subset(data, sorted(order.tolist()))  # type: ignore[arg-type]
