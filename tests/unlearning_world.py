# SPDX-License-Identifier: Apache-2.0
"""A memorising classifier, for the tests of unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from expunge.tasks.module import ModuleTask

EPOCHS = 30
LOSS = nn.CrossEntropyLoss(reduction="none")


def fresh() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10))


@dataclass(frozen=True)
class World:
    """Digits of which a fifth are labelled wrongly, and a model that knows them by heart."""

    model: nn.Module
    forget: TensorDataset
    retain: TensorDataset
    validation: TensorDataset
    unseen: TensorDataset

    def arguments(self, **changes: Any) -> dict[str, Any]:
        parts = {k: getattr(self, k) for k in ("forget", "retain", "validation", "unseen")}
        return {**parts, "loss": LOSS, "retrain_epochs": EPOCHS, **changes}


def trained(data: TensorDataset, seed: int) -> nn.Module:
    task = ModuleTask(LOSS, fresh=fresh)
    generator = torch.Generator().manual_seed(seed)
    return task.retrain(fresh(), data, epochs=EPOCHS, generator=generator, images=lambda n: None, lr=3e-3)
