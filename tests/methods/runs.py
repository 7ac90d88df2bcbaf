# SPDX-License-Identifier: Apache-2.0
"""Runs of methods on worlds, each executed once, with records of their side effects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from methods.table import LIGHT, STRENGTH
from methods.worlds import World, memorised, one_class
from methods.yolo_worlds import classify, detect
from torch import nn

from expunge.methods.base import FORWARD, Budget, BudgetSpent, get_method
from expunge.tasks.protocol import Samples, Task

AMPLE = 1e9
MAKERS: dict[str, Callable[..., World]] = {
    "digits": memorised,
    "digits-class": one_class,
    "detect": detect,
    "classify": classify,
}
MANY = 20  # epochs, to see what a method reaches


def digests(model: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of every tensor of a model, by name."""
    return {
        name: hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }


def condition(model: nn.Module) -> dict[str, Any]:
    """Return everything in a model that a method must not change."""
    return {
        "tensors": digests(model),
        "learns": {name: p.requires_grad for name, p in model.named_parameters()},
        "gradients": {name: p.grad is not None for name, p in model.named_parameters()},
        "modes": {name: m.training for name, m in model.named_modules()},
    }


class CountingTask:
    """A task that counts the samples processed by a model, in passes; a forward pass alone is a third."""

    def __init__(self, task: Task) -> None:
        self._task, self.passes = task, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._task, name)
        if name not in ("loss", "outputs", "features", "misclassified", "own_targets", "predicts"):
            return found

        def counted(model: nn.Module, batch: Any, *rest: Any) -> Any:
            result = found(model, batch, *rest)
            values = result.values() if isinstance(result, dict) else [result]
            learns = any(isinstance(v, torch.Tensor) and v.requires_grad for v in values)
            self.passes += self._task.size(batch) * (1 if learns else FORWARD)
            return result

        return counted


@dataclass
class CountingProgress:
    """A progress that only counts."""

    rounds: int = 0
    samples: int = 0

    def images(self, count: int) -> None:
        """Count images."""
        self.samples += count

    def round(self, model: nn.Module) -> None:
        """Count rounds."""
        self.rounds += 1


@dataclass
class Outcome:
    """The result of a run.

    Attributes:
        model: The returned model; None if the budget did not suffice.
        budget: The charged budget.
        passes: The passes done, as counted by the task.
        untouched: Whether the original is unchanged.
        random: Whether torch's global generator is unchanged.
    """

    model: nn.Module | None
    budget: Budget
    passes: float
    untouched: bool
    random: bool


@contextmanager
def _without_cuda() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a method asked for CUDA")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.Tensor, "cuda", refuse)
        patch.setattr(nn.Module, "cuda", refuse)
        yield


def run(
    world: World,
    name: str,
    *,
    seed: int = 1,
    power: int = 0,
    epochs: int | None = None,
    batch: int | None = None,
    limit: float = AMPLE,
    task: Task | None = None,
    original: nn.Module | None = None,
    forget: Samples | None = None,
    retain: Samples | None = None,
) -> Outcome:
    """Run a method once, without CUDA.

    Args:
        world: The world.
        name: Name of the method.
        seed: Seed of the method's generator; torch's global one has another state in every run.
        power, epochs: See ``World.values``; None: a brief run.
        batch: For methods with that hyperparameter; None: the default.
        limit: Limit of the budget.
        task, original, forget, retain: Replace the world's.
    """
    method, original = get_method(name), original or world.original
    counted, budget, model = CountingTask(task or world.task), Budget(limit), None
    values = world.values(method, power, epochs or world.brief)
    values |= LIGHT.get(name, {}) if epochs is None else {}
    if batch is not None and "batch" in method.hyperparameters:
        values["batch"] = batch
    before, state = condition(original), torch.get_rng_state()
    with _without_cuda():
        try:
            model = method.function(
                original,
                forget or world.forget,
                retain or world.retain,
                counted,
                generator=torch.Generator().manual_seed(seed),
                budget=budget,
                progress=CountingProgress(),
                **values,
            )
        except BudgetSpent:
            assert limit < AMPLE
    untouched, random = condition(original) == before, bool(torch.equal(torch.get_rng_state(), state))
    torch.rand(1)
    return Outcome(model, budget, counted.passes, untouched, random)


@dataclass
class Runs:
    """Worlds and runs, each created once."""

    worlds: dict[tuple[str, int], World] = field(default_factory=dict)
    kept: dict[tuple[Any, ...], Outcome] = field(default_factory=dict)

    def world(self, name: str, seed: int = 0) -> World:
        """Return a world; worlds of digits depend on the seed."""
        if (name, seed) not in self.worlds:
            self.worlds[name, seed] = MAKERS[name](*([seed] if seed else []))
        return self.worlds[name, seed]

    def brief(self, world: str, method: str) -> Outcome:
        """Return a short run at the method's default strength, with an ample budget."""
        return self._kept(world, 0, method)

    def full(self, world: str, seed: int, method: str) -> Outcome:
        """Return a run in one of the worlds with the length and strength that the method needs there."""
        # A retrain must be as long as the original training.
        epochs = self.world(world).epochs if "epochs" in get_method(method).needs else MANY
        return self._kept(world, seed, method, power=STRENGTH.get((world, method), 0), epochs=epochs)

    def _kept(self, world: str, seed: int, method: str, **arguments: Any) -> Outcome:
        key = world, seed, method, *sorted(arguments.items())
        if key not in self.kept:
            self.kept[key] = run(self.world(world, seed), method, **arguments)
        return self.kept[key]
