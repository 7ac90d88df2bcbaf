# SPDX-License-Identifier: Apache-2.0
"""Small worlds for the tests of methods: a task, a trained model, and samples to forget."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge.methods.base import Method
from expunge.tasks.module import ModuleTask
from expunge.tasks.protocol import Samples, Task

SIZE, LEAVING, NOISE, EPOCHS = 242, 33, 0.2, 60
RECIPE: dict[str, Any] = {"lr": 3e-3, "batch": 32}
CLASS = 3
EARLY = 10  # epochs of the checkpoint to rewind to
REFERENCES = (11, 12, 13)


@dataclass
class World:
    """A trained model and samples to forget.

    Attributes:
        name: Name of the world.
        task: Its task.
        original: The model trained on forget and retain set; in training mode, as after a training.
        forget, retain: Its training data. Both have a last batch of one sample for batches of 16.
        unseen: Samples of the forget set's distribution, never trained on.
        train: Trains a new model on samples, for a number of epochs, with a seed.
        epochs: Epochs of the original training.
        checkpoint: An early state of the original training.
        freeze: Returns the task, a copy of the original with some frozen layers, and the names of the frozen
            parameters.
        recipe: Settings of the original training, if they differ from the task's.
        brief: Epochs of a short run.
    """

    name: str
    task: Task
    original: nn.Module
    forget: Samples
    retain: Samples
    unseen: Samples
    train: Callable[[Samples, int, int], nn.Module]
    epochs: int
    checkpoint: nn.Module
    freeze: Callable[[], tuple[Task, nn.Module, list[str]]]
    recipe: dict[str, Any] = field(default_factory=dict)
    brief: int = 2

    def __post_init__(self) -> None:
        self.original.train()

    @cached_property
    def references(self) -> list[nn.Module]:
        """Return models that were trained without the forget set."""
        return [self.train(self.retain, self.epochs, seed) for seed in REFERENCES]

    def values(self, method: Method, power: int, epochs: int) -> dict[str, Any]:
        """Return the hyperparameters with which a method is run here.

        Args:
            method: The method.
            power: Exponent of the factor on its strength.
            epochs: For methods with that hyperparameter.

        Raises:
            KeyError: If a required hyperparameter is not defined here.
        """
        needed = {
            "unseen": self.unseen,
            "checkpoint": self.checkpoint,
            "epochs": epochs,
            "settings": self.recipe,
        }
        own = method.hyperparameters
        values = {name: needed[name] for name in {*method.needs, *({"epochs", "settings"} & own.keys())}}
        if power and method.strength is not None:
            knob, factor = method.strength
            values[knob] = own[knob] * factor**power
        return values

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Return the main metric on retain and forget set, and the excess of the forget set's loss."""
        ready = self.task.clone(model)
        forget, retain = self.task.evaluate(ready, self.forget), self.task.evaluate(ready, self.retain)
        return {
            "retain": retain[self.task.metric],
            "forget": forget[self.task.metric],
            "gap": forget["loss"] - retain["loss"],
        }


def network() -> nn.Sequential:
    """Return an untrained classifier of 8x8 digits, with batch norm."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def _digits(name: str, seed: int, choose: Callable[[torch.Tensor], torch.Tensor], noise: float) -> World:
    """Return a world of memorised digits; ``choose`` selects the forgotten ones by their labels."""
    generator = torch.Generator().manual_seed(seed)
    pictures, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=generator)
    x = (torch.tensor(pictures, dtype=torch.float32) / 16).reshape(-1, 1, 8, 8)[order]
    y = torch.tensor(digits)[order]
    wrong = torch.rand(len(y), generator=generator) < noise
    y[wrong] = (y[wrong] + torch.randint(1, 10, (int(wrong.sum()),), generator=generator)) % 10
    leaves = choose(y[:SIZE])
    data, rest = TensorDataset(x[:SIZE], y[:SIZE]), TensorDataset(x[SIZE:], y[SIZE:])
    forget = Subset(data, leaves.nonzero().flatten().tolist())
    retain = Subset(data, (~leaves).nonzero().flatten().tolist())
    unseen = choose(y[SIZE:]).nonzero().flatten().tolist()
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))

    def train(samples: Samples, epochs: int, by: int) -> nn.Module:
        return task.retrain(
            network(),
            samples,
            epochs=epochs,
            generator=torch.Generator().manual_seed(by),
            images=lambda count: None,
            **RECIPE,
        )

    original, checkpoint = train(data, EPOCHS, seed), train(data, EARLY, seed)

    def freeze() -> tuple[Task, nn.Module, list[str]]:
        twin = copy.deepcopy(original)
        for layer in (twin[1], twin[2]):
            layer.requires_grad_(False)
        return task, twin, [name for name, p in twin.named_parameters() if not p.requires_grad]

    unknown = Subset(rest, unseen)
    return World(
        name, task, original, forget, retain, unknown, train, EPOCHS, checkpoint, freeze, dict(RECIPE)
    )


def memorised(seed: int = 0) -> World:
    """Return digits of which a fifth is mislabelled, so that each must be memorised; some are forgotten."""
    return _digits("digits", seed, lambda y: torch.arange(len(y)) < LEAVING, NOISE)


def one_class(seed: int = 0) -> World:
    """Return digits of which one class is forgotten."""
    return _digits("digits-class", seed, lambda y: y == CLASS, 0.0)
