# SPDX-License-Identifier: Apache-2.0
"""Prepare the models and datasets of a Python caller, and check that they fit together."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from expunge.errors import InputError
from expunge.tasks.batches import Batches, signature_of
from expunge.tasks.device import resolve_device
from expunge.tasks.dry_run import dry_run
from expunge.tasks.module import Loss, ModuleTask
from expunge.tasks.protocol import Samples
from expunge.tasks.user_samples import common_collate, take_samples
from expunge.tasks.working_copy import WorkingCopy, working_copy
from expunge.training.random_state import isolated_rng, seed_everything
from expunge.unlearning.guard import finite


@dataclass(frozen=True)
class Reading:
    """Functions that read the caller's samples and outputs.

    Attributes:
        unpack: Returns (inputs, targets) of a batch; None: derived from the form of the samples.
        logits: Returns the class scores among the model's outputs; None: derived from their form.
    """

    unpack: Callable[[Any], Any] | None = None
    logits: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for name, function in vars(self).items():
            if function is not None and not callable(function):
                raise InputError(
                    f"`{name}` is not a function.",
                    f"It is of the type {type(function).__name__}.",
                    "Give one.",
                )


@dataclass(frozen=True)
class Prepared:
    """A model and its data, after a dry run.

    Attributes:
        copy: Working copy of the model.
        task: Task of the model.
        sets: The given datasets, by name.
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
    """Return a working copy of the model, its task and its datasets, after a dry run.

    Args:
        model: The caller's model.
        sets: The caller's datasets, by name.
        loss, fresh, evaluate, device: See :class:`~expunge.tasks.module.ModuleTask`.
        reading: Reads samples and outputs.
        gradients: Whether parameters must be trainable.
        trained: Whether the model is trained, so that ``fresh`` must return another one.
        thaw: Make all parameters trainable if none is, for probes that train copies.

    Raises:
        InputError: If model, data and functions do not fit together.
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
    data = {name: samples for name, (samples, _) in taken.items()}
    dry_run(task, own.module, data, gradients=gradients)
    return Prepared(own, task, data)


def refuse_unsuited_goal(task: ModuleTask, goal: str) -> None:
    """Raise InputError if a class is to be removed from a model that is not a classifier.

    Raises:
        InputError: If the goal is ``class`` and the targets are not class indices.
    """
    if goal == "class" and task.classifies is False:
        raise InputError(
            "The goal 'class' needs a classifier.",
            "The model gives no class scores, or the targets are not class indices.",
            "Give `logits` if the scores are among its outputs; else choose the goal 'sample'.",
        )


def thaw_frozen(model: nn.Module) -> None:
    """Make all parameters of a model trainable if none is."""
    if not any(p.requires_grad for p in model.parameters()):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter; the CPU if it has none."""
    first = next(iter(model.parameters()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def own_randomness(seed: Any, device: str | torch.device | None, models: Sequence[Any]) -> Iterator[None]:
    """Seed the global generators, which datasets may use, and restore them at the end.

    Args:
        seed: Seed of all randomness.
        device: Device of the computation.
        models: Models on whose devices the generators are also restored.

    Raises:
        InputError: If the seed is not a whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise InputError(
            "The seed is not a whole number.", f"It is {seed!r}.", "Give one, for instance seed=0."
        )
    devices = {p.device for m in models if isinstance(m, nn.Module) for p in m.parameters()}
    if device is not None:
        devices.add(resolve_device(device))
    cuda = sorted({d.index or 0 for d in devices if d.type == "cuda"})
    with isolated_rng(), torch.random.fork_rng(devices=cuda):
        seed_everything(int(seed) % 2**63)
        if cuda:
            torch.cuda.manual_seed_all(int(seed) % 2**63)
        yield
