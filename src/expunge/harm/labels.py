# SPDX-License-Identifier: Apache-2.0
"""How doubtful the labels of a model's training samples are, by predictions that never saw them where it can.

* An erasable training: the mean of the shards that never saw the sample. Public samples, which all shards
  saw, are judged as for an adopted model.
* With ``folds``: models trained anew, each without a part of the people, speak of that part.
* Classes, otherwise: cross-validation of a head on the model's features, all pictures of a person in one
  fold.
* Boxes, otherwise: the model itself, which learnt these labels: not held out, and it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.box_labels import KINDS, combined
from expunge.bias.checkpoints import (
    Checkpoint,
    doubts_of,
    features_of,
    held_out,
    probabilities_of,
)
from expunge.bias.label_errors import cross_validated, label_issues, self_confidence
from expunge.harm.folds import out_of_fold
from expunge.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from expunge.data.types import Sample
    from expunge.harm.finding import Ground
    from expunge.tasks.protocol import Samples, Task

FEWEST = 20  # training samples below which nothing is cross-validated
DOUBTFUL = 0.5  # from which a picture is counted


@dataclass(frozen=True)
class Doubts:
    """Doubts about the labels of n training samples.

    Attributes:
        scores: (n,) in 0–1, higher is more doubtful; NaN: not known.
        by_shards, by_folds, seen: How many were judged by shards, by cross-validation, and by a model that
            had seen the label.
        issues: (n,) which are label issues by confident learning; None for boxes.
        probabilities: (n, C), for classes.
        by_kind: (n, K), for boxes: the doubt by kind, in the order of ``box_labels.KINDS``.
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
        """What a reader should know."""
        if not self.seen:
            return []
        said = (
            f"The labels of {self.seen} sample(s) were doubted by a model that had learnt them: it hides "
            "errors that it knows by heart."
        )
        if self.by_kind is not None:
            said += " With --folds K, detectors that never saw them are trained and asked."
        return [said]

    def as_json(self) -> dict[str, Any]:
        """Return the counts."""
        found: dict[str, Any] = {
            "issues": None if self.issues is None else int(self.issues.sum()),
            "held_out_by_shards": self.by_shards,
            "held_out_by_folds": self.by_folds,
            "not_held_out": self.seen,
        }
        if self.by_kind is not None:
            counts = (self.by_kind >= DOUBTFUL).sum(0)
            found["doubtful"] = dict(zip(KINDS, counts.tolist(), strict=True))
        return found

    def kind(self, row: int) -> str:
        """Return of which kind the greatest doubt about a picture's boxes is; empty for classes."""
        return "" if self.by_kind is None else KINDS[int(self.by_kind[row].argmax())]


@dataclass(frozen=True)
class Folds:
    """Trainings without a part of the people: how many, and the epochs of each."""

    count: int
    epochs: int


def doubts(
    task: Task,
    module: nn.Module,
    points: Sequence[Checkpoint],
    ground: Ground,
    seed: int,
    progress: Progress,
    folds: Folds | None = None,
) -> Doubts:
    """Return how doubtful each training sample's label is; see the module.

    Args:
        task: Knows what the model says.
        module: The published model, ready.
        points: States of the training.
        ground: The training samples.
        seed: Of the folds.
        progress: Is told what goes on.
        folds: Train models for samples that no shard can judge; None: do not.

    Raises:
        InputError: If the folds do not fit.
    """
    progress.say("confidence in labels")
    classify = ground.opened.task == "classify"
    width = len(ground.opened.names) if classify else len(KINDS)

    def ask(model: nn.Module, data: Samples) -> NDArray[np.float64]:
        return probabilities_of(task, model, data) if classify else doubts_of(task, model, data)

    said = held_out(ask, points, ground.training)
    if said.ndim == 1:
        said = np.full((len(ground.train), width), np.nan)
    unknown = np.isnan(said[:, 0])
    folded = 0
    if unknown.any():
        other, never_saw = _others(task, module, ground, ask, seed, progress, folds)
        said = np.where(unknown[:, None], other, said)
        folded = int(unknown.sum()) if never_saw else 0
    counts = int((~unknown).sum()), folded, int(unknown.sum()) - folded
    if not classify:
        return Doubts(combined(said), *counts, by_kind=said)
    labels = class_labels(ground)
    return Doubts(1 - self_confidence(labels, said), *counts, label_issues(labels, said), said)


def class_labels(ground: Ground) -> NDArray[np.int64]:
    """Return the labelled class of every training sample (n,)."""
    return np.array([ground.opened.names.index(s.class_name or "") for s in ground.train], dtype=np.int64)


def _others(
    task: Task,
    module: nn.Module,
    ground: Ground,
    ask: Callable[[nn.Module, Samples], NDArray[np.float64]],
    seed: int,
    progress: Progress,
    folds: Folds | None,
) -> tuple[NDArray[np.float64], bool]:
    """What is said of all training samples without shards, and whether who says it never saw their labels."""
    people = subject_groups(ground.train)
    if folds is not None:
        progress.begin("folds", (folds.count - 1) * folds.epochs * len(ground.train))
        try:
            return _folded(task, module, ground, ask, people, folds, seed, progress), True
        finally:
            progress.end()
    if ground.opened.task == "classify" and len(people) >= FEWEST and len(set(people)) > 1:
        features, classes = features_of(task, module, ground.training), len(ground.opened.names)
        return cross_validated(features, class_labels(ground), people, classes=classes, seed=seed), True
    return ask(module, ground.training), False


def _folded(
    task: Task,
    module: nn.Module,
    ground: Ground,
    ask: Callable[[nn.Module, Samples], NDArray[np.float64]],
    people: Sequence[int],
    folds: Folds,
    seed: int,
    progress: Progress,
) -> NDArray[np.float64]:
    from torch.utils.data import Subset

    rows, said = [], []
    for model, own in out_of_fold(
        task,
        module,
        ground.training,
        people,
        folds=folds.count,
        epochs=folds.epochs,
        seed=seed,
        on_images=progress.add,
    ):
        rows.append(own)
        said.append(ask(model, Subset(ground.training, own.tolist())))  # type: ignore[arg-type]
    return np.concatenate(said)[np.argsort(np.concatenate(rows))]


def subject_groups(samples: Sequence[Sample]) -> list[int]:
    """Return a number for each sample: the same for all that show one person, or are linked by others."""
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
