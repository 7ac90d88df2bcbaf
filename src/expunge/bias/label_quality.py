# SPDX-License-Identifier: Apache-2.0
"""Estimate how doubtful the labels of training samples are, by held-out predictions where possible.

* Erasable models: the mean of the shards that never saw the sample. Public samples, which all shards saw, are
  treated as for an adopted model.
* With ``folds``: models trained without a part of the people predict that part.
* Otherwise, for classes: cross-validation of a head on the model's features, with all images of a person in
  one fold.
* Otherwise, for boxes: the model itself, which learnt these labels. This is not held out, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.attribution.checkpoints import (
    Checkpoint,
    features_of,
    held_out,
    label_doubts_of,
    probabilities_of,
)
from expunge.bias.attribution.label_errors import cross_validated, label_issues, self_confidence
from expunge.bias.folds import out_of_fold
from expunge.progress import Progress
from expunge.tasks.box_labels import KINDS, combine_kinds

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from expunge.bias.search import SearchContext
    from expunge.data.types import Sample
    from expunge.tasks.protocol import Samples, Task

MIN_SAMPLES = 20  # minimum of training samples for cross-validation
DOUBTFUL = 0.5  # doubt from which an image is counted


@dataclass(frozen=True)
class Doubts:
    """Doubts about the labels of n training samples.

    Attributes:
        scores: (n,) in 0–1, higher is more doubtful; NaN: unknown.
        by_shards, by_folds, seen: Numbers of samples scored by shards, by cross-validation, and by a model
            that had seen the label.
        issues: (n,) label issues by confident learning; None for boxes.
        probabilities: (n, C), for classes.
        by_kind: (n, K), for boxes: doubts by kind, in the order of ``box_labels.KINDS``.
    """

    scores: NDArray[np.float64]
    by_shards: int
    by_folds: int
    seen: int
    issues: NDArray[np.bool_] | None = None
    probabilities: NDArray[np.float64] | None = None
    by_kind: NDArray[np.float64] | None = None

    @property
    def warnings(self) -> list[str]:
        """Warnings for the report."""
        if not self.seen:
            return []
        warning = (
            f"The labels of {self.seen} sample(s) were checked by a model that was trained on them: it "
            "misses errors that it learnt by heart."
        )
        if self.by_kind is not None:
            warning += " With --folds K, they are checked by detectors that never saw them."
        return [warning]

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        report: dict[str, Any] = {
            "issues": None if self.issues is None else int(self.issues.sum()),
            "held_out_by_shards": self.by_shards,
            "held_out_by_folds": self.by_folds,
            "not_held_out": self.seen,
        }
        if self.by_kind is not None:
            counts = (self.by_kind >= DOUBTFUL).sum(0)
            report["doubtful"] = dict(zip(KINDS, counts.tolist(), strict=True))
        return report

    def kind(self, row: int) -> str:
        """Return the kind of the greatest doubt about an image's boxes; empty for classes."""
        return "" if self.by_kind is None else KINDS[int(self.by_kind[row].argmax())]


@dataclass(frozen=True)
class Folds:
    """Number of cross-validation trainings, and the epochs of each."""

    count: int
    epochs: int


def label_quality(
    task: Task,
    module: nn.Module,
    points: Sequence[Checkpoint],
    context: SearchContext,
    seed: int,
    progress: Progress,
    folds: Folds | None = None,
) -> Doubts:
    """Return the doubts about the labels of all training samples; see the module.

    Args:
        task: Task of the model.
        module: The published model, in evaluation mode.
        points: Checkpoints of the training.
        context: The training samples.
        seed: Seed of the folds.
        progress: Receives progress reports.
        folds: Trainings for samples that every shard saw; None: no further training.

    Raises:
        InputError: If the folds do not fit.
    """
    progress.say("confidence in labels")
    classify = context.opened.task == "classify"
    width = len(context.opened.names) if classify else len(KINDS)

    def predict(model: nn.Module, data: Samples) -> NDArray[np.float64]:
        return probabilities_of(task, model, data) if classify else label_doubts_of(task, model, data)

    predictions = held_out(predict, points, context.training)
    if predictions.ndim == 1:
        predictions = np.full((len(context.train), width), np.nan)
    unknown = np.isnan(predictions[:, 0])
    folded = 0
    if unknown.any():
        other, unbiased = _without_shards(task, module, context, predict, seed, progress, folds)
        predictions = np.where(unknown[:, None], other, predictions)
        folded = int(unknown.sum()) if unbiased else 0
    counts = int((~unknown).sum()), folded, int(unknown.sum()) - folded
    if not classify:
        return Doubts(combine_kinds(predictions), *counts, by_kind=predictions)
    labels = class_labels(context)
    return Doubts(
        1 - self_confidence(labels, predictions), *counts, label_issues(labels, predictions), predictions
    )


def class_labels(context: SearchContext) -> NDArray[np.int64]:
    """Return the labelled class of every training sample (n,)."""
    return np.array([context.opened.names.index(s.class_name or "") for s in context.train], dtype=np.int64)


def _without_shards(
    task: Task,
    module: nn.Module,
    context: SearchContext,
    predict: Callable[[nn.Module, Samples], NDArray[np.float64]],
    seed: int,
    progress: Progress,
    folds: Folds | None,
) -> tuple[NDArray[np.float64], bool]:
    """Return predictions for all training samples without shards, and whether they are held out."""
    people = subject_groups(context.train)
    if folds is not None:
        progress.begin("folds", (folds.count - 1) * folds.epochs * len(context.train))
        try:
            return _out_of_fold(task, module, context, predict, people, folds, seed, progress), True
        finally:
            progress.end()
    if context.opened.task == "classify" and len(people) >= MIN_SAMPLES and len(set(people)) > 1:
        features, classes = features_of(task, module, context.training), len(context.opened.names)
        return cross_validated(features, class_labels(context), people, classes=classes, seed=seed), True
    return predict(module, context.training), False


def _out_of_fold(
    task: Task,
    module: nn.Module,
    context: SearchContext,
    predict: Callable[[nn.Module, Samples], NDArray[np.float64]],
    people: Sequence[int],
    folds: Folds,
    seed: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """Return the predictions of models that were trained without the sample's fold."""
    from torch.utils.data import Subset

    rows, predictions = [], []
    for model, own in out_of_fold(
        task,
        module,
        context.training,
        people,
        folds=folds.count,
        epochs=folds.epochs,
        seed=seed,
        on_images=progress.add,
    ):
        rows.append(own)
        predictions.append(predict(model, Subset(context.training, own.tolist())))  # type: ignore[arg-type]
    return np.concatenate(predictions)[np.argsort(np.concatenate(rows))]


def subject_groups(samples: Sequence[Sample]) -> list[int]:
    """Return a group number for each sample (n,): connected components of samples that share a person."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(samples)
    people = {who: count + i for i, who in enumerate(dict.fromkeys(p for s in samples for p in s.subjects))}
    links = [(i, people[who]) for i, sample in enumerate(samples) for who in sample.subjects]
    size = count + len(people)
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(size, size))
    _, numbers = connected_components(graph, directed=False)
    return [int(n) for n in numbers[:count]]
