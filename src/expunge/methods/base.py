# SPDX-License-Identifier: Apache-2.0
"""The common part of all methods: registration, the work budget, and the training loop.

A method is a pure function ``(model, forget, retain, task, *, generator, budget, progress, **hyperparameters)
-> nn.Module``: it does not change the model that it is given, and all randomness comes from ``generator``.

All methods here differ from their papers in two points. They use AdamW instead of SGD, because its step size
does not depend on the scale of the loss, which differs by orders of magnitude between tasks. Batch-norm
statistics do not change (evaluation mode, no dropout), so that no data of the forget set enters them.
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
from expunge.methods.least import Least, LeastWork, SetSizes, retain_batch
from expunge.methods.values import check_values
from expunge.tasks.optimizer import adamw
from expunge.tasks.protocol import Batch, Samples, Task

ENTRY_POINTS = "expunge.methods"
GOALS = ("sample", "subject", "class")
CLIP_NORM = 10.0
STRONGER = 3.0  # factor on the learning rate that strengthens a method
MethodFunction = Callable[..., nn.Module]
_COMMON = ("model", "forget", "retain", "task", "generator", "budget", "progress")


class BudgetSpent(ExpungeError):
    """A method requires more work than its budget allows."""


class Diverged(ExpungeError):
    """Weights or losses are not finite."""


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: Name as in its paper, in lower case.
        function: The implementation.
        goals: Supported goals: ``sample`` and ``subject`` (a model as if never trained on them), ``class``
            (a model that does not predict it).
        cost: Approximate cost with default values, in passes over the retained data; ``auto`` tries the
            cheapest methods first.
        paper: Authors, title, year.
        needs: Hyperparameters without a default, such as an earlier checkpoint.
        automatic: Whether ``auto`` may try the method.
        strength: The hyperparameter that ``auto`` tunes, and the factor that makes the method stronger;
            by default the learning rate, if there is one.
        least: Returns the work required for a first step; by default one batch of the retain set.
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
        """Names and defaults of the hyperparameters; None for one without a default."""
        parameters = [
            p for p in inspect.signature(self.function).parameters.values() if p.name not in _COMMON
        ]
        return {p.name: None if p.default is p.empty else p.default for p in parameters}

    def check(self, values: Mapping[str, Any]) -> None:
        """Check that hyperparameters are known, complete and valid.

        Raises:
            InputError: If one is unknown, missing or invalid; the message names what is known or valid.
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
        """Check that hyperparameters are known and valid.

        Raises:
            InputError: If one is unknown or invalid; the message names what is known or valid.
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

    def least_work(self, sizes: SetSizes, values: Mapping[str, Any]) -> LeastWork:
        """Return the work required for a first step; missing values take their defaults."""
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
    """Register a function as a method; see :class:`Method` for the arguments."""

    def add(function: MethodFunction) -> MethodFunction:
        if name in _REGISTRY and _REGISTRY[name].function is not function:
            raise ValueError(f"two methods are called {name!r}")
        has_rate = "lr" in inspect.signature(function).parameters
        tuned = strength or (("lr", STRONGER) if has_rate else None)
        _REGISTRY[name] = Method(name, function, goals, cost, paper, needs, automatic, tuned, least)
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
    """Return all methods by name, cheapest first, including those of other packages (entry points)."""
    _load()
    return dict(sorted(_REGISTRY.items(), key=lambda pair: (pair[1].cost, pair[0])))


def get_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        InputError: If there is no such method; the message lists the known ones.
    """
    known = all_methods()
    if name not in known:
        raise InputError(
            f"There is no method '{name}'.", f"Known: {', '.join(sorted(known))}.", "Choose one of these."
        )
    return known[name]


@dataclass
class Budget:
    """The work that a method may do, in passes of one sample (forward and backward).

    Attributes:
        limit: Allowed number of passes.
        spent: Passes done.
        steps: Updates of the weights.
        whole: The budget of which this one is a part; it is charged for the same work.
    """

    limit: float
    spent: float = 0.0
    steps: int = 0
    whole: Budget | None = None

    def part(self, share: float) -> Budget:
        """Return a separate budget for a share of the remaining work."""
        return Budget(share * (self.limit - self.spent), whole=self)

    def covers(self, samples: int, share: float = 1.0) -> bool:
        """Return whether the remaining budget covers a number of samples.

        Args:
            samples: Number of samples.
            share: Cost per sample as a fraction of a full pass.
        """
        return self.spent + samples * share <= self.limit * (1 + 1e-9)

    def charge(self, samples: int, share: float = 1.0) -> None:
        """Record work that is about to be done.

        Args:
            samples: Number of samples.
            share: Cost per sample as a fraction of a full pass.

        Raises:
            BudgetSpent: If the remaining budget does not cover it; the work must not be done then.
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
    """Scale gradients in place so that their joint norm is at most ``most``."""
    if not gradients:
        return
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if not norm <= most:
        torch._foreach_mul_(gradients, most / norm)


class Progress(Protocol):
    """Receives a method's progress, and keeps intermediate states from which a guard may choose."""

    def images(self, count: int) -> None:
        """Report that ``count`` samples were processed."""
        ...

    def round(self, model: nn.Module) -> None:
        """Report the end of a round, usually an epoch; the model can be evaluated and returned now."""
        ...


@dataclass
class Loop:
    """Iterates over data within a budget and updates weights.

    Attributes:
        task: The task.
        generator: Draws the order of samples.
        budget: Charged for every batch.
        progress: Receives the number of processed samples.
        exhausted: Whether the budget ended an iteration early.
    """

    task: Task
    generator: torch.Generator
    budget: Budget
    progress: Progress
    exhausted: bool = field(default=False, init=False)

    def batches(
        self, data: Samples, size: int, share: float = 1.0, shuffle: bool = True
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield (indices, batch) once over the data; stop early if the budget ends.

        Args:
            data: The data set.
            size: Samples per batch; the last batch may be smaller.
            share: Cost per sample as a fraction of a full pass.
            shuffle: Whether to use a new random order.
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
        """Yield (indices, batch) repeatedly, in a new order each time, until the budget ends."""
        while not self.exhausted and len(data):
            yield from self.batches(data, size, share)

    def optimizer(self, model: nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
        """Return AdamW over the trainable parameters."""
        return adamw(self.task.parameters(model).values(), lr, weight_decay)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        loss: torch.Tensor | Iterable[torch.Tensor],
        change: Callable[[], None] | None = None,
    ) -> None:
        """Take one descent step on a loss, or on a sum of losses, with clipped gradients.

        Args:
            optimizer: Optimizer of the parameters.
            loss: A scalar, or several scalars to be summed. A generator is advanced only after the previous
                loss's graph was freed, so that a step on two batches needs the memory of one.
            change: Modifies the gradients before the step, for instance by a mask.

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
        """Report the end of a round."""
        self.progress.round(model)
