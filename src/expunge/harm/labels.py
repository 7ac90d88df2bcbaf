# SPDX-License-Identifier: Apache-2.0
"""How doubtful the labels of a model's training samples are, by confidence that never saw them where it can.

* Classes, an erasable training: the mean prediction of the shards that never saw the sample; of public
  samples, which all shards saw, as for an adopted model.
* Classes, an adopted model: cross-validation of a head on the model's features, all pictures of a person in
  one fold.
* Boxes, an erasable training: the mean doubts of the shards that never saw the picture.
* Boxes, otherwise: the doubts of the model itself, which learnt these labels: not held out, and it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.bias.checkpoints import (
    Checkpoint,
    doubts_of,
    features_of,
    held_out,
    probabilities_of,
)
from expunge.bias.label_errors import cross_validated, label_issues, self_confidence
from expunge.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from expunge.data.types import Sample
    from expunge.harm.finding import Ground
    from expunge.tasks.protocol import Task

FEWEST = 20  # training samples below which nothing is cross-validated


@dataclass(frozen=True)
class Doubts:
    """Doubts about the labels of n training samples.

    Attributes:
        scores: (n,) in 0–1, higher is more doubtful; NaN: not known.
        by_shards, by_folds, seen: How many were judged by shards, by cross-validation, and by a model that
            had seen the label.
        issues: (n,) which are label issues by confident learning; None for boxes.
        probabilities: (n, C), for classes.
    """

    scores: NDArray[np.float64]
    by_shards: int
    by_folds: int
    seen: int
    issues: NDArray[np.bool_] | None = None
    probabilities: NDArray[np.float64] | None = None

    @property
    def warnings(self) -> list[str]:
        """What a reader should know."""
        if self.seen:
            return [
                f"The labels of {self.seen} sample(s) were doubted by a model that had learnt them: it hides "
                "errors that it knows by heart."
            ]
        return []

    def as_json(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "issues": None if self.issues is None else int(self.issues.sum()),
            "held_out_by_shards": self.by_shards,
            "held_out_by_folds": self.by_folds,
            "not_held_out": self.seen,
        }


def doubts(
    task: Task,
    module: nn.Module,
    points: Sequence[Checkpoint],
    ground: Ground,
    seed: int,
    progress: Progress,
) -> Doubts:
    """Return how doubtful each training sample's label is; see the module.

    Args:
        task: Knows what the model says.
        module: The published model, ready.
        points: States of the training.
        ground: The training samples.
        seed: Of the folds.
        progress: Is told what goes on.
    """
    progress.say("confidence in labels")
    train = ground.training
    if ground.opened.task != "classify":
        scores = held_out(lambda m, data: doubts_of(task, m, data), points, train)
        unknown = np.isnan(scores)
        if unknown.any():
            scores = np.where(unknown, doubts_of(task, module, train), scores)
        return Doubts(scores, int((~unknown).sum()), 0, int(unknown.sum()))
    labels = np.array([ground.opened.names.index(s.class_name or "") for s in ground.train], dtype=np.int64)
    said = held_out(lambda m, data: probabilities_of(task, m, data), points, train)
    if said.ndim == 1:
        said = np.full((len(labels), len(ground.opened.names)), np.nan)
    unknown = np.isnan(said[:, 0])
    folded = 0
    if unknown.any():
        people = subject_groups(ground.train)
        if len(labels) >= FEWEST and len(set(people)) > 1:
            other = cross_validated(
                features_of(task, module, train),
                labels,
                people,
                classes=len(ground.opened.names),
                seed=seed,
            )
            folded = int(unknown.sum())
        else:
            other = probabilities_of(task, module, train)
        said = np.where(unknown[:, None], other, said)
    return Doubts(
        1 - self_confidence(labels, said),
        int((~unknown).sum()),
        folded,
        int(unknown.sum()) - folded,
        label_issues(labels, said),
        said,
    )


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
