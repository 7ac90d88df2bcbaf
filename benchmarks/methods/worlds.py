# SPDX-License-Identifier: Apache-2.0
"""What a suite gives: trained models, and what each is to forget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from expunge.tasks.module import Loss, ModuleTask
from expunge.tasks.protocol import Samples, Task

GOALS = {"random": "sample", "subject": "subject", "subjects": "subject", "class": "class"}
GOALS["corrupted"] = "sample"
"""What is forgotten, as the suites call it, and the goal that the methods know it by."""


@dataclass(frozen=True)
class World:
    """One erasure: what leaves, what stays, and what judges. None of the sets overlap.

    Attributes:
        goal: Of ``GOALS``.
        forget, retain: Together what the original was trained on.
        test: Held-out samples of what stays, with true labels.
        unseen: Held-out samples of the forget set's kind; they judge.
        calibration: Others of that kind, for methods that need some.
        classes: Indices of the classes to remove.
    """

    goal: str
    forget: Samples
    retain: Samples
    test: Samples
    unseen: Samples
    calibration: Samples
    classes: tuple[int, ...] = ()

    @property
    def method_goal(self) -> str:
        """The goal as methods know it."""
        return GOALS[self.goal]


@dataclass(frozen=True)
class Trained:
    """A model, the CPU seconds of its training, and a state from the middle of it (if asked for)."""

    model: nn.Module
    seconds: float
    checkpoint: nn.Module | None = None


class Suite(Protocol):
    """A task, its data and its recipe.

    Attributes:
        name: Of the suite.
        about: What it is, in a sentence for the table.
        goals: What is forgotten.
        epochs: Of every training.
        batch: Samples in a batch of every training.
        task: The model family.
    """

    name: str
    about: str
    goals: tuple[str, ...]
    epochs: int
    batch: int
    task: Task

    def world(self, goal: str, seed: int) -> World:
        """Return what is to be forgotten."""
        ...

    def variant(self, goal: str) -> str:
        """Return what is equal for goals whose originals are trained on the same samples."""
        ...

    def everything(self, goal: str, seed: int) -> Samples:
        """Return what the original is trained on."""
        ...

    def train(self, samples: Samples, seed: int, early: int = 0) -> Trained:
        """Train a model from scratch, and keep its state after ``early`` epochs where that is not 0."""
        ...


@dataclass
class ModuleSuite:
    """What suites of plain torch classifiers share.

    Attributes:
        network: Returns an untrained classifier.
        recipe: ``lr`` and ``batch`` of ``ModuleTask.retrain``.
        parts: Returns for a seed, and whether some labels are corrupted, what is trained on and a function
            from a goal to what leaves and what judges.
    """

    name: str
    about: str
    goals: tuple[str, ...]
    epochs: int
    network: Callable[[], nn.Module]
    recipe: dict[str, Any]
    parts: Callable[[int, bool], tuple[Samples, Callable[[str], World]]]
    loss: Loss = nn.CrossEntropyLoss(reduction="none")  # noqa: RUF009 (it has no state)
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.batch: int = self.recipe["batch"]
        self.task: Task = ModuleTask(self.loss, device=self.device)
        self._drawn: dict[tuple[str, int], tuple[Samples, Callable[[str], World]]] = {}

    def variant(self, goal: str) -> str:
        """Return whether the data has corrupted labels."""
        return "corrupted" if goal == "corrupted" else "clean"

    def _parts(self, goal: str, seed: int) -> tuple[Samples, Callable[[str], World]]:
        key = self.variant(goal), seed
        if key not in self._drawn:
            self._drawn[key] = self.parts(seed, goal == "corrupted")
        return self._drawn[key]

    def world(self, goal: str, seed: int) -> World:
        """Return what is to be forgotten."""
        return self._parts(goal, seed)[1](goal)

    def everything(self, goal: str, seed: int) -> Samples:
        """Return what the original is trained on."""
        return self._parts(goal, seed)[0]

    def train(self, samples: Samples, seed: int, early: int = 0) -> Trained:
        """Train a classifier from scratch."""
        made: list[nn.Module] = []
        kept: list[nn.Module] = []
        done = 0

        def fresh() -> nn.Module:
            made.append(self.network())
            return made[-1]

        def count(images: int) -> None:
            nonlocal done
            done += images
            if early and not kept and done >= early * len(samples):
                kept.append(task.clone(made[-1]))

        task = ModuleTask(self.loss, fresh=fresh, device=self.device)
        began = time.process_time()
        model = task.retrain(
            self.network(),
            samples,
            epochs=self.epochs,
            generator=torch.Generator().manual_seed(seed),
            images=count,
            **self.recipe,
        )
        return Trained(model, time.process_time() - began, kept[0] if kept else None)


def pick(samples: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    """Return the samples at some places."""
    return [samples[i] for i in indices]
