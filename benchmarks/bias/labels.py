# SPDX-License-Identifier: Apache-2.0
"""Experiment ``labels``: a contributor whose labels are often wrong, found by rankings and forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.bias.report import Row
from expunge.bias.attribution.agreement import aggregate, best
from expunge.bias.attribution.checkpoints import Checkpoint, features_of, misclassified_of
from expunge.bias.attribution.estimates import attribute
from expunge.bias.attribution.label_errors import cross_validated, self_confidence
from expunge.bias.attribution.targets import choose, parse_target
from expunge.tasks.module import ModuleTask

SEEDS = 5
BASE = "nothing forgotten"
FIGURES = ("precision", "recall", "contributor's rank", "accuracy")
CONTRIBUTORS, EACH, VALIDATION, WRONG = 10, 90, 300, 0.4
TOP, EPOCHS, QUICK_EPOCHS = 50, 30, 6
RECIPE: dict[str, Any] = {"lr": 5e-3, "batch": 50}
AT = (0.2, 0.5, 1.0)
ABOUT = (
    f"scikit-learn's digits, {CONTRIBUTORS} contributors of {EACH} pictures each; of one of them {WRONG:.0%} "
    f"of the labels are wrong. Rankings look at {VALIDATION} validation pictures; trak and tracin aim, as "
    "`expunge bias find --target errors` does, at the mean loss of all of them. Precision and recall: of "
    f"the first {TOP}, which labels are wrong (36 are). "
    "The contributor's rank: 1 is the most suspect of ten, chance is 5.5. Accuracy: of a retrain without the "
    f"first {TOP}, on test pictures that no ranking saw. *cleanlab*: its label quality scores, from the same "
    "out-of-sample probabilities as *label-errors*."
)
RANKINGS = ("trak", "tracin", "label-errors", "cleanlab", "chance")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Pictures (n, 1, 8, 8) with labels as given, who gave them, and which are wrong; and what judges."""

    train: TensorDataset
    labels: NDArray[np.int64]
    contributor: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    validation: TensorDataset
    test: TensorDataset


def draw(seed: int) -> Problem:
    """Deal the digits out."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    flat, digits = load_digits(return_X_y=True)
    order = rng.permutation(len(digits))
    pictures = torch.tensor(flat[order] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    true, count = digits[order].astype(np.int64), CONTRIBUTORS * EACH
    who = np.repeat(np.arange(CONTRIBUTORS), EACH)
    wrong = np.zeros(count, dtype=bool)
    wrong[rng.choice(EACH, round(WRONG * EACH), replace=False)] = True
    given = true[:count].copy()
    given[wrong] = (given[wrong] + rng.integers(1, 10, int(wrong.sum()))) % 10

    def data(first: int, last: int, labels: NDArray[np.int64]) -> TensorDataset:
        return TensorDataset(pictures[first:last], torch.tensor(labels))

    middle = count + VALIDATION
    return Problem(
        data(0, count, given),
        given,
        who,
        wrong,
        data(count, middle, true[count:middle]),
        data(middle, len(true), true[middle:]),
    )


def network() -> nn.Module:
    """Return an untrained network for pictures (B, 1, 8, 8)."""
    layers: list[nn.Module] = []
    for channels, more in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(channels, more, 3, 2, 1, bias=False), nn.BatchNorm2d(more), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def run(seed: int, *, quick: bool = False, device: str = "cpu") -> Iterator[Row]:
    """Yield functions that measure what each ranking finds, and the accuracy after removing it."""
    problem, epochs = draw(seed), QUICK_EPOCHS if quick else EPOCHS
    made: list[nn.Module] = []
    kept: list[nn.Module] = []

    def fresh() -> nn.Module:
        made.append(network())
        return made[-1]

    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"), fresh=fresh, device=device)

    def train(rows: NDArray[np.int64], watch: bool = False) -> nn.Module:
        done = 0

        def count(images: int) -> None:
            nonlocal done
            done += images
            if watch and len(kept) < len(AT) and done >= AT[len(kept)] * epochs * len(rows):
                kept.append(task.clone(made[-1]))

        data: Dataset[Any] = torch.utils.data.Subset(problem.train, rows.tolist())
        return task.retrain(
            network(),
            data,  # type: ignore[arg-type]
            epochs=epochs,
            generator=torch.Generator().manual_seed(seed),
            images=count,
            **RECIPE,
        )

    def accuracy(model: nn.Module) -> float:
        return round(float(task.evaluate(task.clone(model), problem.test)["accuracy"]), 4)

    everything = np.arange(len(problem.labels))

    @cache
    def original() -> nn.Module:
        return train(everything, watch=True)

    @cache
    def harm() -> dict[str, Floats]:
        return rankings(task, original(), kept, problem, seed)

    def found_by(name: str) -> dict[str, Any]:
        found = best(harm()[name], TOP)
        names, scores = aggregate(harm()[name], [(str(c),) for c in problem.contributor], "mean")
        return {
            "precision": round(float(problem.wrong[found].mean()), 4),
            "recall": round(float(problem.wrong[found].sum() / problem.wrong.sum()), 4),
            "contributor's rank": 1 + int((scores > scores[names.index("0")]).sum()),
            "accuracy": accuracy(train(np.setdiff1d(everything, found))),
        }

    yield BASE, lambda: {"accuracy": accuracy(original())}
    for name in RANKINGS:
        yield name, partial(found_by, name)
    for who, rows in (
        ("the contributor", everything[problem.contributor != 0]),
        ("exactly the wrong ones", everything[~problem.wrong]),
    ):
        yield who, lambda rows=rows: {"accuracy": accuracy(train(rows))}


def rankings(
    task: ModuleTask, model: nn.Module, states: list[nn.Module], problem: Problem, seed: int
) -> dict[str, Floats]:
    """Return harm (n,) by ranking, higher is worse; *chance* is an order drawn at random."""
    from cleanlab.rank import get_label_quality_scores

    rows = np.arange(len(problem.labels))
    points = [
        Checkpoint(lambda state=state: state, rows, 1.0, place == len(states) - 1)
        for place, state in enumerate(states)
    ]
    chosen = choose(parse_target("errors"), misclassified_of(task, model, problem.validation))
    estimates, _ = attribute(task, points, problem.train, problem.validation, chosen, seed=seed)
    features = features_of(task, model, problem.train)
    sure = cross_validated(features, problem.labels, classes=10, seed=seed)
    return {
        **estimates,
        "label-errors": 1 - self_confidence(problem.labels, sure),
        "cleanlab": 1 - get_label_quality_scores(problem.labels, sure),
        "chance": np.random.default_rng([seed, 9]).random(len(rows)),
    }
