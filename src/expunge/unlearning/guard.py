# SPDX-License-Identifier: Apache-2.0
"""Watches a method at work: progress, utility after every round, and the last state that was still good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from expunge.tasks.protocol import Samples, Task

State = dict[str, torch.Tensor]


@dataclass
class Guard:
    """A method's ``progress``: keeps the last state whose utility holds.

    Attributes:
        task: Evaluates.
        data: Held-out retained data.
        least: Utility below which a state is not kept.
        on_images: Is told of the work done.
        trail: For every round its utility and whether it holds.
        safe: The last state that holds.
        safe_round: Its number, from 1.
    """

    task: Task
    data: Samples
    least: float
    on_images: Callable[[int], None] = lambda count: None
    trail: list[dict[str, Any]] = field(default_factory=list)
    safe: State | None = None
    safe_round: int = 0

    def images(self, count: int) -> None:
        """So many samples were worked on."""
        self.on_images(count)

    def round(self, model: nn.Module) -> None:
        """Judge the state after a round, and keep it if it is fit for use."""
        self.see(model)

    def see(self, model: nn.Module) -> bool:
        """Whether a state is finite and useful; it is kept if so."""
        if self.safe is not None and self.safe_round == len(self.trail) and _equal(model, self.safe):
            return True  # the state after the last round, which was seen already
        good, utility = finite(model), None
        if good:
            utility = self.task.evaluate(model, self.data)[self.task.metric]
            good = utility >= self.least
        self.trail.append({"round": len(self.trail) + 1, "utility": utility, "holds": good})
        if good:
            self.safe = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            self.safe_round = len(self.trail)
        return good


class StepCounter:
    """Counts the steps of all optimizers while it is entered: of methods that do not count their own."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self._handle = register_optimizer_step_post_hook(self._add)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _add(self, *_: object) -> None:
        self.count += 1


def _equal(model: nn.Module, state: State) -> bool:
    return all(torch.equal(v.detach().cpu(), state[k]) for k, v in model.state_dict().items())


def finite(model: nn.Module) -> bool:
    """Whether all weights and statistics of a model are numbers."""
    return all(bool(torch.isfinite(v).all()) for v in model.state_dict().values() if v.is_floating_point())
