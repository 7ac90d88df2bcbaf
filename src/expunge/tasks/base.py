# SPDX-License-Identifier: Apache-2.0
"""The Task protocol: what the trainers, and later methods and audits, ask of a model family."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from expunge.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from expunge.data.types import DatasetConfig, Sample
    from expunge.exact.plan import Plan
    from expunge.exact.schedule import Stage


class StageData(Protocol):
    """The samples of a stage, augmented statelessly."""

    def batch(self, stage: Stage, epoch: int, indices: Sequence[int]) -> dict[str, Any]:
        """Return the collated batch of the samples at ``indices``, as drawn in this epoch."""
        ...


class TrainingTask(Protocol):
    """A model family that can be trained exactly."""

    name: str

    def build(self, plan: Plan) -> nn.Module:
        """Return the plan's architecture in fp32; its weights are to be loaded."""
        ...

    def prepare(self, model: nn.Module, plan: Plan, frozen: int) -> None:
        """Attach the loss, and let all but the first ``frozen`` layers learn."""
        ...

    def optimizer(self, model: nn.Module, plan: Plan, lr0: float) -> torch.optim.Optimizer:
        """Return a fresh optimizer whose groups have their own multiples of ``lr0``."""
        ...

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Set what the loss depends on the epoch for."""
        ...

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Return the batch's training loss, a scalar."""
        ...

    def data(self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]) -> StageData:
        """Return training data over samples below ``root``."""
        ...

    def initial(self, plan: Plan) -> dict[str, torch.Tensor]:
        """Return the seeded random weights of the plan's architecture."""
        ...

    def evaluate(
        self,
        states: Sequence[dict[str, torch.Tensor]],
        plan: Plan,
        config: DatasetConfig,
        root: Path,
        samples: Sequence[Sample],
    ) -> dict[str, float]:
        """Return metrics of a model (several states: of their ensemble) on samples."""
        ...

    def deployable(self, state: dict[str, torch.Tensor], plan: Plan) -> bytes:
        """Return a ``.pt`` file, in full precision, that plain Ultralytics loads."""
        ...


_TASKS = {
    "detect": "expunge.tasks.detect:DetectTask",
    "classify": "expunge.tasks.classify:ClassifyTask",
}


def get_task(name: str) -> TrainingTask:
    """Return the task of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in _TASKS:
        raise InputError(
            f"Erasable training does not know the task '{name}'.",
            f"Known: {', '.join(sorted(_TASKS))}.",
            "Choose weights of one of these tasks.",
        )
    module, _, attribute = _TASKS[name].partition(":")
    task: TrainingTask = getattr(import_module(module), attribute)()
    return task
