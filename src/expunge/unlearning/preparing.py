# SPDX-License-Identifier: Apache-2.0
"""Prepares models and data sets of a Python caller for the work, and refuses what does not fit."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.exact.trainer import isolated_rng, seed_everything
from expunge.tasks.batches import Batches, signature_of
from expunge.tasks.device import resolve_device
from expunge.tasks.dry_run import dry_run
from expunge.tasks.module import Loss, ModuleTask
from expunge.tasks.protocol import Samples
from expunge.tasks.sets import common_collate, take_samples
from expunge.tasks.working_copy import WorkingCopy, working_copy
from expunge.unlearning.guard import finite


@dataclass(frozen=True)
class Reading:
    """How the caller's samples and outputs are to be read.

    Attributes:
        unpack: Returns (inputs, target) of a sample; None: by its form.
        logits: Returns the class scores among the model's outputs; None: by their form.
    """

    unpack: Callable[[Any], Any] | None = None
    logits: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for name, function in vars(self).items():
            if function is not None and not callable(function):
                raise InputError(
                    f"`{name}` is no function.", f"It is of the type {type(function).__name__}.", "Give one."
                )


@dataclass(frozen=True)
class Prepared:
    """A model and its data, tried together.

    Attributes:
        copy: The model to work with.
        task: Speaks for it.
        sets: Data sets by name, those that were given.
    """

    copy: WorkingCopy
    task: ModuleTask
    sets: Mapping[str, Samples]


def prepare(
    model: Any,
    sets: Mapping[str, Any],
    loss: Loss,
    *,
    reading: Reading,
    fresh: Callable[[], nn.Module] | None = None,
    evaluate: Callable[[nn.Module, Samples], dict[str, float]] | None = None,
    device: str | torch.device | None = None,
    gradients: bool = True,
    trained: bool = True,
    thaw: bool = False,
) -> Prepared:
    """Return a copy of the model, its task and its data sets, after a dry run of all of them.

    Args:
        model: As the caller gave it.
        sets: Data sets by name, as the caller gave them.
        loss, fresh, evaluate, device: See :class:`~expunge.tasks.module.ModuleTask`.
        reading: Of samples and outputs.
        gradients: Whether weights must be able to learn.
        trained: Whether the model is trained, so that ``fresh`` must give another.
        thaw: Let a model learn in which everything is frozen: for probes that train copies.

    Raises:
        InputError: If something does not fit.
    """
    own = working_copy(model)
    if not finite(own.module):
        raise InputError(
            "The model's weights are not all numbers.",
            "At least one is NaN or infinite.",
            "Load an undamaged file.",
        )
    if thaw:
        thaw_frozen(own.module)
    taken = {name: take_samples(data, name) for name, data in sets.items()}
    batches = Batches(
        signature_of(own.module),
        common_collate({name: collate for name, (_, collate) in taken.items()}),
        reading.unpack,
        reading.logits,
        own.dtype,
    )
    task = ModuleTask(
        loss,
        fresh=fresh,
        evaluate=evaluate,
        device=device or device_of(own.module),
        batches=batches,
        present=own.deliver if own.dtypes else None,
        trained=trained,
    )
    found = {name: samples for name, (samples, _) in taken.items()}
    dry_run(task, own.module, found, gradients=gradients)
    return Prepared(own, task, found)


def refuse_unsuited_goal(task: ModuleTask, goal: str) -> None:
    """Refuse to remove a class from what is no classifier.

    Raises:
        InputError: If the goal is a class, and targets are no class indices.
    """
    if goal == "class" and task.classifies is False:
        raise InputError(
            "The goal 'class' needs a classifier.",
            "The model gives no scores of classes, or the targets are no class indices.",
            "Give `logits` if the scores are among its outputs; else choose the goal 'sample'.",
        )


def thaw_frozen(model: nn.Module) -> None:
    """Let all weights of a model learn if none of them does."""
    if not any(p.requires_grad for p in model.parameters()):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter; the CPU where there is none."""
    found = next(iter(model.parameters()), None)
    return torch.device("cpu") if found is None else found.device


@contextmanager
def own_randomness(seed: Any, device: str | torch.device | None, models: Sequence[Any]) -> Iterator[None]:
    """Seed the global generators, from which data sets may draw, and restore them at the end.

    Args:
        seed: Of all randomness.
        device: Where the caller wants the work to be done.
        models: On whose devices generators are restored too.

    Raises:
        InputError: If the seed is no whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise InputError("The seed is no whole number.", f"It is {seed!r}.", "Give one, for instance seed=0.")
    places = {p.device for m in models if isinstance(m, nn.Module) for p in m.parameters()}
    if device is not None:
        places.add(resolve_device(device))
    cuda = sorted({place.index or 0 for place in places if place.type == "cuda"})
    with isolated_rng(), torch.random.fork_rng(devices=cuda):
        seed_everything(int(seed) % 2**63)
        if cuda:
            torch.cuda.manual_seed_all(int(seed) % 2**63)
        yield
