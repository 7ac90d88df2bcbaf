# SPDX-License-Identifier: AGPL-3.0-or-later
"""The exact training task of Ultralytics detection (YOLO26 and its predecessors)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from expunge.data.types import DatasetConfig, Sample
from expunge.storage.hashing import keyed_hash
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import build_module, pack
from expunge.training.random_state import isolated_rng, seed_everything

if TYPE_CHECKING:
    from expunge.tasks.boxes_data import BoxStageData
    from expunge.training.plan import Plan


class UltralyticsTask:
    """The common part of detection and classification."""

    name = ""

    def build(self, plan: Plan) -> Any:
        """Return the plan's architecture in fp32."""
        with isolated_rng():
            return build_module(plan.task, plan.architecture, plan.names)

    def initial(self, plan: Plan) -> dict[str, torch.Tensor]:
        """Return the seeded random weights of the plan's architecture."""
        with isolated_rng():
            seed_everything(keyed_hash(plan.seed, "init"))
            module = build_module(plan.task, plan.architecture, plan.names)
        return {name: value.detach().clone() for name, value in module.state_dict().items()}

    def prepare(self, model: Any, plan: Plan, frozen: int) -> None:
        """Attach the loss and make all but the first ``frozen`` layers trainable."""
        load_ultralytics()
        from expunge.tasks.boxes_data import hyperparameters

        model.args = hyperparameters(plan)
        prefixes = tuple(f"model.{i}." for i in range(frozen))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(prefixes or "\0") and ".dfl" not in name)
        model.criterion = model.init_criterion()

    def optimizer(self, model: Any, plan: Plan, lr0: float) -> torch.optim.Optimizer:
        """Return Ultralytics' optimizer with its parameter groups."""
        load_ultralytics()
        from ultralytics.engine.trainer import BaseTrainer

        recipe, build = plan.recipe, cast(Any, BaseTrainer.build_optimizer)
        optimizer: torch.optim.Optimizer = build(
            None, model, recipe.optimizer, lr0, recipe.momentum, recipe.weight_decay
        )
        return optimizer

    def begin_epoch(self, model: Any, epoch: int, epochs: int) -> None:
        """Do nothing: the loss does not depend on the epoch."""

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Return the training loss of a batch (a scalar)."""
        total: torch.Tensor = model(batch)[0].sum()
        return total

    def deployable(self, state: dict[str, torch.Tensor], plan: Plan) -> bytes:
        """Return the bytes of a full-precision ``.pt`` file that plain Ultralytics loads."""
        module = self.build(plan)
        module.load_state_dict(state)
        return pack(module, {"task": plan.task, "imgsz": plan.recipe.imgsz, "batch": plan.recipe.batch})


class DetectTask(UltralyticsTask):
    """Object detection; both heads of YOLO26 are trained."""

    name = "detect"

    def begin_epoch(self, model: Any, epoch: int, epochs: int) -> None:
        """Shift the loss weight from the one-to-many to the one-to-one head, as Ultralytics does."""
        criterion = model.criterion
        if hasattr(criterion, "o2m"):
            remaining = max(1 - epoch / max(epochs - 1, 1), 0)
            criterion.o2m = remaining * (criterion.o2m_copy - criterion.final_o2m) + criterion.final_o2m
            criterion.o2o = max(criterion.total - criterion.o2m, 0)

    def data(self, plan: Plan, config: DatasetConfig, root: Path, samples: Sequence[Sample]) -> BoxStageData:
        """Return the training data of the samples below ``root``."""
        load_ultralytics()
        from expunge.tasks.boxes_data import BoxStageData

        return BoxStageData(plan, config, root, samples)

    def evaluate(
        self,
        states: Sequence[dict[str, torch.Tensor]],
        plan: Plan,
        config: DatasetConfig,
        root: Path,
        samples: Sequence[Sample],
    ) -> dict[str, float]:
        """Return precision, recall, mAP50 and mAP50-95; several states are evaluated by their fused boxes."""
        from expunge.tasks.detect_eval import evaluate

        modules = []
        for state in states:
            module = self.build(plan)
            module.load_state_dict(state)
            modules.append(module)
        return evaluate(modules, plan, config, root, samples)
