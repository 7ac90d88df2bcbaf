# SPDX-License-Identifier: Apache-2.0
"""Watch a method: report its progress, evaluate each round, and keep the last useful state."""

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
    """The ``progress`` of a method; it keeps the last state whose utility holds.

    Attributes:
        task: Evaluates models.
        data: Held-out retained data.
        least: Minimum utility of a state that is kept.
        on_images: Receives the number of samples processed.
        trail: Utility of each round, and whether it holds.
        safe: The last state whose utility holds.
        safe_round: Round of that state, from 1.
    """

    task: Task
    data: Samples
    least: float
    on_images: Callable[[int], None] = lambda count: None
    trail: list[dict[str, Any]] = field(default_factory=list)
    safe: State | None = None
    safe_round: int = 0

    def images(self, count: int) -> None:
        """Report that ``count`` samples were processed."""
        self.on_images(count)

    def round(self, model: nn.Module) -> None:
        """Evaluate the state after a round, and keep it if its utility holds."""
        self.see(model)

    def see(self, model: nn.Module) -> bool:
        """Return whether a state is finite and its utility holds; keep it if so."""
        if self.safe is not None and self.safe_round == len(self.trail) and _equal(model, self.safe):
            return True  # already evaluated after the last round
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
    """Count optimizer steps inside a ``with`` block, for methods that do not count their own."""

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
    """Return whether all weights and statistics of a model are finite."""
    return all(bool(torch.isfinite(v).all()) for v in model.state_dict().values() if v.is_floating_point())
