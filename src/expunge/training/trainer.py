# SPDX-License-Identifier: Apache-2.0
"""The training loop: a deterministic function of plan, start state and samples.

It replaces Ultralytics' trainer, which draws randomness by position, saves in half precision and scans the
data (see docs/exact.md). Model, loss, optimizer and augmentations are Ultralytics'.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expunge.errors import ExpungeError
from expunge.storage.hashing import keyed_hash
from expunge.training.checkpoint import State
from expunge.training.random_state import isolated_rng, seed_everything
from expunge.training.schedule import Stage, batches, epoch_order, learning_rate, warmup

if TYPE_CHECKING:
    from expunge.training.plan import Plan
    from expunge.training.task import TrainingTask

EMA_DECAY, EMA_TAU, CLIP_NORM = 0.9999, 2000.0, 10.0
_NORMS = tuple(v for k, v in nn.__dict__.items() if k.endswith(("Norm1d", "Norm2d")))


class TrainingDiverged(ExpungeError):
    """The loss is not a finite number."""


@dataclass
class Hooks:
    """Callbacks of a running stage.

    Attributes:
        images: Called with the number of images of every finished batch.
        epoch: Called after every epoch with a function that returns the current state.
    """

    images: Callable[[int], None] = lambda count: None
    epoch: Callable[[Callable[[], State]], None] = lambda state: None


def run_stage(
    task: TrainingTask, plan: Plan, start: State, stage: Stage, data: Any, paths: Sequence[str], hooks: Hooks
) -> State:
    """Train one stage and return the state at its end.

    Args:
        task: Builds model, optimizer and loss.
        plan: The training plan.
        start: State at the start of the stage, or after ``start.epoch`` epochs of it.
        stage: The epochs to run.
        data: The task's data of the samples; ``data.batch(stage, epoch, indices)`` returns a batch.
        paths: Paths of the samples, in the order of ``data``.
        hooks: Progress callbacks.

    Raises:
        TrainingDiverged: If the loss is not finite.
    """
    with isolated_rng():
        on_cpu = all(value.device.type == "cpu" for value in start.model.values())
        # Same as use_deterministic_algorithms, without its imports; some operations of Ultralytics are
        # deterministic on the CPU only, where all exact plans train.
        torch.set_deterministic_debug_mode("error" if on_cpu else "warn")
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False  # saves time; no code reads uninitialised memory
        try:
            return _run(task, plan, start, stage, data, paths, hooks)
        finally:
            torch.set_deterministic_debug_mode("default")


def _run(
    task: TrainingTask, plan: Plan, start: State, stage: Stage, data: Any, paths: Sequence[str], hooks: Hooks
) -> State:
    frozen = plan.freeze if stage.phase != "public" else 0
    model = task.build(plan)
    model.load_state_dict(start.model)
    task.prepare(model, plan, frozen)
    ema = _Average(model, start)
    optimizer = task.optimizer(model, plan, stage.lr0)
    for group in optimizer.param_groups:
        if "foreach" in group:
            group["foreach"] = True  # equal results with fewer kernel calls
    base_rates = [group["lr"] / stage.lr0 for group in optimizer.param_groups]
    _restore_optimizer(optimizer, start)
    updates, frozen_norms = start.ema_updates, _frozen_norms(model)
    trainable = [p for p in model.parameters() if p.requires_grad]

    def state(done: int) -> State:
        tensors, scalars = _optimizer_state(optimizer)
        return State(dict(model.state_dict()), ema.tensors, tensors, scalars, updates, done)

    first = max(start.epoch, stage.first_epoch)
    for epoch in range(first, stage.first_epoch + stage.epochs):
        task.begin_epoch(model, epoch, stage.phase_epochs)
        epoch_batches = batches(epoch_order(plan.seed, stage.phase, epoch, paths), plan.recipe.batch)
        single: bool | None = None
        for i, indices in enumerate(epoch_batches):
            done = i / len(epoch_batches)
            rate = learning_rate(plan.recipe, stage, epoch, done) * warmup(
                plan.recipe, stage, epoch, (i + 1) / len(epoch_batches)
            )
            for group, scale in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * scale
            batch = data.batch(stage, epoch, indices)
            if single is not (len(indices) == 1):
                single = len(indices) == 1
                model.train()
                for norm in _norms(model) if single else frozen_norms:
                    norm.eval()  # frozen layers, or a single sample: batch statistics do not exist
            seed_everything(keyed_hash(plan.seed, "step", stage.phase, epoch, paths[indices[0]]))
            loss = task.loss(model, batch)
            if not torch.isfinite(loss):
                raise TrainingDiverged(
                    f"Training diverged in epoch {epoch + 1} of the {stage.phase} phase.",
                    "The loss is not a finite number.",
                    "Train again with a lower learning rate (--set lr0=…).",
                )
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trainable, CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            updates += 1
            ema.update(EMA_DECAY * (1 - math.exp(-updates / EMA_TAU)))
            hooks.images(len(indices))
        done_epochs = epoch + 1
        hooks.epoch(lambda done_epochs=done_epochs: state(done_epochs))  # type: ignore[misc]
    return state(stage.first_epoch + stage.epochs)


class _Average:
    """The exponential moving average of a model's state, updated with fused operations."""

    def __init__(self, model: nn.Module, start: State) -> None:
        live, reference = model.state_dict(), start.ema or start.model
        self.tensors = {name: reference[name].clone() for name in live}
        # Training updates the model's tensors in place, so they are collected only once.
        floats = [name for name, value in live.items() if value.is_floating_point()]
        self._averaged = [self.tensors[name] for name in floats], [live[name] for name in floats]
        self._copied = [(self.tensors[n], v) for n, v in live.items() if not v.is_floating_point()]

    def update(self, decay: float) -> None:
        """Update the average: ``average = decay * average + (1 - decay) * model``."""
        averaged, live = self._averaged
        torch._foreach_lerp_(averaged, live, 1 - decay)
        for copy_, value in self._copied:
            copy_.copy_(value)


def _norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, _NORMS)]


def _frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Return the norm layers without trainable parameters; their running statistics must not change."""
    return [m for m in _norms(model) if not any(p.requires_grad for p in m.parameters())]


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, float] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value
            elif value is not None:
                scalars[f"{index}.{name}"] = value
    return tensors, scalars


def _restore_optimizer(optimizer: torch.optim.Optimizer, start: State) -> None:
    state: dict[int, dict[str, Any]] = {}
    for source in (start.optimizer, start.scalars):
        for key, value in source.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = copy.deepcopy(value)
    if state:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def cpu_seconds() -> float:
    """Return the CPU time of this process in seconds, over all threads."""
    return time.process_time()
