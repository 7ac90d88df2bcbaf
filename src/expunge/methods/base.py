# SPDX-License-Identifier: Apache-2.0
"""What all methods share: registration, the budget, and the loop that keeps to it.

A method is a pure function ``(model, forget, retain, task, *, generator, budget, progress, **hyperparameters)
-> nn.Module``: the model that is passed in stays as it is, and all randomness comes from ``generator``.

Differences that all methods here have from their papers: AdamW instead of SGD, since the size of its steps
does not depend on the scale of the loss, which differs between tasks by orders; and batch-norm statistics
stay as they are (eval mode, no dropout), so that nothing of the forget set enters them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Protocol

import torch
from torch import nn

from expunge.errors import ExpungeError, InputError
from expunge.methods.least import FORWARD as FORWARD
from expunge.methods.least import Least, LeastWork, Sizes, retain_batch
from expunge.methods.values import check_values
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Batch, Samples, Task

ENTRY_POINTS = "expunge.methods"
GOALS = ("sample", "subject", "class")
CLIP_NORM = 10.0
STRONGER = 3.0  # the factor by which a learning rate is raised to make a method work harder
MethodFunction = Callable[..., nn.Module]
_COMMON = ("model", "forget", "retain", "task", "generator", "budget", "progress")


class BudgetSpent(ExpungeError):
    """A method asked for more work than its budget allows."""


class Diverged(ExpungeError):
    """Weights or losses are no longer numbers."""


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: As in its paper, lower case.
        function: Does it.
        goals: What it is for: ``sample`` and ``subject`` (be as if never trained on them), ``class``
            (be without it).
        cost: What it costs at its defaults, roughly, in passes over the retained data: ``auto`` tries the
            cheap ones first.
        paper: Authors, title, year.
        needs: Hyper-parameters that have no default (an earlier checkpoint, for instance).
        automatic: Whether ``auto`` may try it.
        strength: The hyper-parameter that says how hard the method works, and the factor by which it becomes
            stronger: ``auto`` tunes it. Unless it is given, the learning rate if there is one.
        least: What it needs for its first step; unless given, one batch of the retain set.
    """

    name: str
    function: MethodFunction
    goals: tuple[str, ...]
    cost: float
    paper: str
    needs: tuple[str, ...] = ()
    automatic: bool = True
    strength: tuple[str, float] | None = None
    least: Least = retain_batch

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Names and defaults; a hyper-parameter that must be given has None."""
        own = [p for p in inspect.signature(self.function).parameters.values() if p.name not in _COMMON]
        return {p.name: None if p.default is p.empty else p.default for p in own}

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise an error for a hyper-parameter that is unknown, missing, or has a value that it cannot have.

        Raises:
            InputError: It names the known ones, or says what values it takes.
        """
        self.check_known(values)
        missing = [name for name in self.needs if values.get(name) is None]
        if missing:
            raise InputError(
                f"The method '{self.name}' needs '{missing[0]}'.",
                "It has no default.",
                "Give it, or choose another method.",
            )

    def check_known(self, values: Mapping[str, Any]) -> None:
        """Raise an error for a hyper-parameter that is unknown or has a value that it cannot have.

        Raises:
            InputError: It names the known ones, or says what values it takes.
        """
        known = self.hyperparameters
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(
                f"The method '{self.name}' has no hyper-parameter '{unknown[0]}'.",
                f"It has: {', '.join(f'{k}={v}' for k, v in known.items()) or 'none'}.",
                "Correct the name.",
            )
        check_values(self.name, values, known)

    def least_work(self, sizes: Sizes, values: Mapping[str, Any]) -> LeastWork:
        """Return what the first step takes, with defaults for what is not given."""
        return self.least(sizes, {**self.hyperparameters, **values})


_REGISTRY: dict[str, Method] = {}


def register(
    name: str,
    *,
    goals: tuple[str, ...],
    cost: float,
    paper: str,
    needs: tuple[str, ...] = (),
    automatic: bool = True,
    strength: tuple[str, float] | None = None,
    least: Least = retain_batch,
) -> Callable[[MethodFunction], MethodFunction]:
    """Make a function known as a method; see :class:`Method` for the arguments."""

    def add(function: MethodFunction) -> MethodFunction:
        if name in _REGISTRY and _REGISTRY[name].function is not function:
            raise ValueError(f"two methods are called {name!r}")
        learns = "lr" in inspect.signature(function).parameters
        knob = strength or (("lr", STRONGER) if learns else None)
        _REGISTRY[name] = Method(name, function, goals, cost, paper, needs, automatic, knob, least)
        return function

    return add


@cache
def _load() -> None:
    package = import_module("expunge.methods")
    for module in iter_modules(package.__path__):
        import_module(f"expunge.methods.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        point.load()


def all_methods() -> dict[str, Method]:
    """Return every method by name, those of other packages (entry points) included, cheapest first."""
    _load()
    return dict(sorted(_REGISTRY.items(), key=lambda pair: (pair[1].cost, pair[0])))


def get_method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        InputError: If there is none; it lists those there are.
    """
    known = all_methods()
    if name not in known:
        raise InputError(
            f"There is no method '{name}'.", f"Known: {', '.join(sorted(known))}.", "Choose one of these."
        )
    return known[name]


@dataclass
class Budget:
    """Work that a method may do, counted in passes of one sample (forward and backward).

    Attributes:
        limit: Passes allowed.
        spent: Passes done.
        steps: Changes made to the weights.
        whole: The budget that this one is a part of, which is charged for the same work.
    """

    limit: float
    spent: float = 0.0
    steps: int = 0
    whole: Budget | None = None

    def part(self, share: float) -> Budget:
        """Return a budget of its own for a share of what is left."""
        return Budget(share * (self.limit - self.spent), whole=self)

    def covers(self, samples: int, share: float = 1.0) -> bool:
        """Whether so much more work is allowed; ``share``: what of a full pass it is."""
        return self.spent + samples * share <= self.limit * (1 + 1e-9)

    def charge(self, samples: int, share: float = 1.0) -> None:
        """Count work that is about to be done.

        Raises:
            BudgetSpent: If it is more than is left; then it must not be done.
        """
        if not self.covers(samples, share):
            raise BudgetSpent(
                "The budget does not suffice for this method.",
                f"It needs more than {self.limit:.0f} passes of a sample.",
                "Raise the budget, or choose a cheaper method.",
            )
        if self.whole is not None:
            self.whole.charge(samples, share)
        self.spent += samples * share


def clip(gradients: list[torch.Tensor], most: float = CLIP_NORM) -> None:
    """Scale gradients in place so that their common norm is at most ``most``."""
    if not gradients:
        return
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if not norm <= most:
        torch._foreach_mul_(gradients, most / norm)


class Progress(Protocol):
    """Hears how far a method is, and keeps the states between which a guard may choose."""

    def images(self, count: int) -> None:
        """So many samples were worked on."""
        ...

    def round(self, model: nn.Module) -> None:
        """A round is done (an epoch, usually); the model is fit to be judged, and possibly returned."""
        ...


@dataclass
class Loop:
    """Runs over data within a budget.

    Attributes:
        task: Collates batches.
        generator: Draws the order.
        budget: Is charged for every batch.
        progress: Is told.
        exhausted: Whether the budget ended a run over data early.
    """

    task: Task
    generator: torch.Generator
    budget: Budget
    progress: Progress
    exhausted: bool = field(default=False, init=False)

    def batches(
        self, data: Samples, size: int, share: float = 1.0, shuffle: bool = True
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield (indices, batch) once over the data; ends early where the budget does.

        Args:
            data: What to run over.
            size: Samples in a batch; the last may have fewer.
            share: What working on a batch costs, in full passes.
            shuffle: In an order drawn anew, or as the data is.
        """
        count = len(data)
        order = torch.randperm(count, generator=self.generator).tolist() if shuffle else list(range(count))
        for start in range(0, count, size):
            indices = order[start : start + size]
            if not self.budget.covers(len(indices), share):
                self.exhausted = True
                return
            self.budget.charge(len(indices), share)
            yield indices, self.task.collate([data[i] for i in indices])
            self.progress.images(len(indices))

    def endless(self, data: Samples, size: int, share: float = 1.0) -> Iterator[tuple[list[int], Batch]]:
        """Yield batches over and over, in a new order each time; ends where the budget does."""
        while not self.exhausted and len(data):
            yield from self.batches(data, size, share)

    def optimizer(self, model: nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
        """Return AdamW over what may be changed."""
        return adamw(self.task.parameters(model).values(), lr, weight_decay)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        loss: torch.Tensor | Iterable[torch.Tensor],
        change: Callable[[], None] | None = None,
    ) -> None:
        """Descend once on a scalar, or on the sum of several, with clipped gradients.

        Args:
            optimizer: Of the parameters to change.
            loss: A scalar. Several are taken one by one, and a generator of them is asked for the next only
                when the last one's graph is gone: a step on two batches needs the memory of one.
            change: What to do to the gradients before they are used (a mask, for instance).

        Raises:
            Diverged: If a loss is not finite.
        """
        optimizer.zero_grad(set_to_none=True)
        for part in (loss,) if isinstance(loss, torch.Tensor) else loss:
            if not math.isfinite(part.item()):
                raise Diverged(
                    "The method diverged.", "Its loss is not a finite number.", "Use a lower learning rate."
                )
            part.backward()
        if change is not None:
            change()
        clip([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        optimizer.step()
        self.budget.steps += 1

    def round(self, model: nn.Module) -> None:
        """Say that a round is done."""
        self.progress.round(model)
