# SPDX-License-Identifier: Apache-2.0
"""Where a model contradicts labels: of classes, and of boxes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expunge.tasks.module import ModuleTask
from expunge.tasks.yolo_doubts import doubts

LEFT, RIGHT = [0.0, 0, 10, 10], [20.0, 0, 30, 10]


def ask(found: list[list[float]], truth: list[list[float]], classes: list[int]) -> tuple[float, float]:
    """Return ``missing`` and ``spurious`` of one picture, beside an empty one."""
    rows = torch.tensor(found).reshape(-1, 6)
    boxes = torch.tensor(truth).reshape(-1, 4)
    said = doubts([rows, torch.zeros((0, 6))], boxes, torch.tensor(classes), torch.zeros(len(boxes)))
    assert said["missing"][1] == said["spurious"][1] == 0
    return float(said["missing"][0]), float(said["spurious"][0])


@pytest.mark.parametrize(
    ("found", "truth", "classes", "missing", "spurious"),
    [
        ([[*LEFT, 0.9, 0]], [LEFT], [0], 0, 0.1),
        ([[*LEFT, 0.9, 0], [*RIGHT, 0.7, 0]], [LEFT], [0], 0.7, 0.1),  # a box was left out
        ([[*LEFT, 0.9, 0]], [LEFT, RIGHT], [0, 0], 0, 1),  # nothing is found where a box is
        ([[*LEFT, 0.9, 1]], [LEFT], [0], 0, 1),  # another class
        ([[*LEFT, 0.6, 0], [*LEFT, 0.8, 0]], [LEFT], [0], 0, 0.2),
        ([[*RIGHT, 0.8, 0]], [], [], 0.8, 0),
        ([], [LEFT], [0], 0, 1),
        ([], [], [], 0, 0),
    ],
)
def test_boxes(
    found: list[list[float]], truth: list[list[float]], classes: list[int], missing: float, spurious: float
) -> None:
    assert ask(found, truth, classes) == (pytest.approx(missing), pytest.approx(spurious))


def test_classes() -> None:
    task, model = ModuleTask(nn.CrossEntropyLoss(reduction="none")), nn.Identity()
    batch = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1])
    said = task.doubts(model, batch)["label"]
    torch.testing.assert_close(said, torch.tensor([0.5, 1 / (1 + torch.exp(torch.tensor(-3.0)))]))
