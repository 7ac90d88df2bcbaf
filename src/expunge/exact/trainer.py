# SPDX-License-Identifier: Apache-2.0
"""The training loop: a pure function of (plan, start state, samples), written to repeat to the byte.

Own code rather than Ultralytics' trainer, because that one draws its randomness by position, halves what
it saves and scans the data (see docs/exact.md); model, loss, optimizer and augmentations are Ultralytics'.
"""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from expunge.errors import ExpungeError
from expunge.exact.checkpoint import State
from expunge.exact.hashing import keyed_hash
from expunge.exact.schedule import Stage, batches, epoch_order, learning_rate, warmup

if TYPE_CHECKING:
    from expunge.exact.plan import Plan
    from expunge.tasks.base import TrainingTask

EMA_DECAY, EMA_TAU, CLIP_NORM = 0.9999, 2000.0, 10.0
_NORMS = tuple(v for k, v in nn.__dict__.items() if k.endswith(("Norm1d", "Norm2d")))


class TrainingDiverged(ExpungeError):
    """The loss is no longer a number."""


@dataclass
class Hooks:
    """What the caller hears of a running stage: images done, and the state after each epoch."""

    images: Callable[[int], None] = lambda count: None
    epoch: Callable[[Callable[[], State]], None] = lambda state: None


@contextlib.contextmanager
def isolated_rng() -> Iterator[None]:
    """Leave the process's global generators as they were."""
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.set_rng_state(saved[2])


def seed_everything(value: int) -> None:
    """Seed the three generators that augmentations and layers draw from with 64 bits."""
    random.seed(value)
    np.random.seed([value & 0xFFFFFFFF, value >> 32])
    torch.default_generator.manual_seed(value & (2**63 - 1))


def run_stage(
    task: TrainingTask, plan: Plan, start: State, stage: Stage, data: Any, paths: Sequence[str], hooks: Hooks
) -> State:
    """Train one stage and return the state at its end.

    Args:
        task: Builds model, optimizer and loss.
        plan: The constants.
        start: State before the stage, or in its midst (``start.epoch`` says how far).
        stage: Which epochs to run.
        data: The task's data over the samples; ``data.batch(stage, epoch, indices)`` gives a batch.
        paths: The samples' identities, in the order of ``data``.
        hooks: Progress.

    Raises:
        TrainingDiverged: If the loss is not finite.
    """
    with isolated_rng():
        on_cpu = all(value.device.type == "cpu" for value in start.model.values())
        # As use_deterministic_algorithms, without its imports. Some of Ultralytics' operations only repeat
        # on the CPU, and exact plans train nowhere else.
        torch.set_deterministic_debug_mode("error" if on_cpu else "warn")
        fill: Any = torch.utils.deterministic
        fill.fill_uninitialized_memory = False  # costs time, and nothing reads it
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
            group["foreach"] = True  # the same bytes in fewer calls
    base_rates = [group["lr"] / stage.lr0 for group in optimizer.param_groups]
    _restore_optimizer(optimizer, start)
    updates, still = start.ema_updates, _frozen_norms(model)
    live = [p for p in model.parameters() if p.requires_grad]

    def state(done: int) -> State:
        tensors, scalars = _optimizer_state(optimizer)
        return State(dict(model.state_dict()), ema.tensors, tensors, scalars, updates, done)

    first = max(start.epoch, stage.first_epoch)
    for epoch in range(first, stage.first_epoch + stage.epochs):
        task.begin_epoch(model, epoch, stage.phase_epochs)
        cut = batches(epoch_order(plan.seed, stage.phase, epoch, paths), plan.recipe.batch)
        alone: bool | None = None
        for i, indices in enumerate(cut):
            done = i / len(cut)
            rate = learning_rate(plan.recipe, stage, epoch, done) * warmup(
                plan.recipe, stage, epoch, (i + 1) / len(cut)
            )
            for group, scale in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * scale
            batch = data.batch(stage, epoch, indices)
            if alone is not (len(indices) == 1):
                alone = len(indices) == 1
                model.train()
                for norm in _norms(model) if alone else still:
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
            nn.utils.clip_grad_norm_(live, CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            updates += 1
            ema.update(EMA_DECAY * (1 - math.exp(-updates / EMA_TAU)))
            hooks.images(len(indices))
        done_epochs = epoch + 1
        hooks.epoch(lambda done_epochs=done_epochs: state(done_epochs))  # type: ignore[misc]
    return state(stage.first_epoch + stage.epochs)


class _Average:
    """The exponential moving average of a model's state, updated in few calls."""

    def __init__(self, model: nn.Module, start: State) -> None:
        live, reference = model.state_dict(), start.ema or start.model
        self.tensors = {name: reference[name].clone() for name in live}
        # Training changes a model's tensors in place: they need to be collected only once.
        floats = [name for name, value in live.items() if value.is_floating_point()]
        self._averaged = [self.tensors[name] for name in floats], [live[name] for name in floats]
        self._copied = [(self.tensors[n], v) for n, v in live.items() if not v.is_floating_point()]

    def update(self, decay: float) -> None:
        """Take one step towards the model."""
        averaged, live = self._averaged
        torch._foreach_lerp_(averaged, live, 1 - decay)
        for mine, value in self._copied:
            mine.copy_(value)


def _norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, _NORMS)]


def _frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Norm layers none of whose parameters learn: their running statistics must not move either."""
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
    """CPU time of this process, all threads."""
    return time.process_time()
