# SPDX-License-Identifier: Apache-2.0
"""The protocol of a model family that the trainer can train exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from expunge.data.types import DatasetConfig, Sample
    from expunge.training.plan import Plan
    from expunge.training.schedule import Stage


class StageData(Protocol):
    """The samples of a stage, with augmentation that depends only on plan, epoch and sample."""

    def batch(self, stage: Stage, epoch: int, indices: Sequence[int]) -> dict[str, Any]:
        """Return the collated batch of the samples at ``indices``, augmented for this epoch."""
        ...


class TrainingTask(Protocol):
    """A model family that can be trained exactly."""

    name: str

    def build(self, plan: Plan) -> nn.Module:
        """Return the plan's architecture in fp32, before its weights are loaded."""
        ...

    def prepare(self, model: nn.Module, plan: Plan, frozen: int) -> None:
        """Attach the loss, and make all but the first ``frozen`` layers trainable."""
        ...

    def optimizer(self, model: nn.Module, plan: Plan, lr0: float) -> torch.optim.Optimizer:
        """Return a new optimizer, whose parameter groups scale ``lr0`` by factors of their own."""
        ...

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Update the parts of the loss that depend on the epoch."""
        ...

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Return the training loss of a batch (a scalar)."""
        ...

    def data(self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]) -> StageData:
        """Return the training data of the samples below ``root``."""
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
        """Return the metrics of a model on samples; several states are evaluated as an ensemble."""
        ...

    def deployable(self, state: dict[str, torch.Tensor], plan: Plan) -> bytes:
        """Return the bytes of a full-precision ``.pt`` file that plain Ultralytics loads."""
        ...
