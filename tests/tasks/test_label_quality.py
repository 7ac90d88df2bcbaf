# SPDX-License-Identifier: Apache-2.0
"""Doubt of a classifier about labels (for boxes see tests/bias/test_box_labels.py)."""

from __future__ import annotations

import torch
from torch import nn

from expunge.tasks.module import ModuleTask


def test_classes() -> None:
    task, model = ModuleTask(nn.CrossEntropyLoss(reduction="none")), nn.Identity()
    batch = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1])
    doubt = task.label_quality(model, batch)["label"]
    torch.testing.assert_close(doubt, torch.tensor([0.5, 1 / (1 + torch.exp(torch.tensor(-3.0)))]))
