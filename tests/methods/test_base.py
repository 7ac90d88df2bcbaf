# SPDX-License-Identifier: Apache-2.0
"""Steps and budgets that all methods share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from methods.runs import Heard
from methods.test_formulas_a import F, R, arrays, by_hand, linear
from torch import nn

from expunge.methods.base import Budget, BudgetSpent, Diverged, Loop
from expunge.tasks.module import ModuleTask


def test_parts_of_a_step_add_up_and_are_taken_one_by_one() -> None:
    model, order = linear(), []
    loop = Loop(ModuleTask(nn.CrossEntropyLoss(reduction="none")), torch.Generator(), Budget(1), Heard())

    def parts() -> Iterator[torch.Tensor]:
        for data, weight in ((R, 0.9), (F, -0.1)):
            order.append("forward")
            logits = model(data.tensors[0])
            logits.register_hook(lambda gradient: order.append("backward"))
            yield weight * nn.functional.cross_entropy(logits, data.tensors[1])

    found: list[np.ndarray] = []

    def keep() -> None:
        found.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]))

    loop.step(loop.optimizer(model, 0.0), parts(), keep)
    expected = 0.9 * by_hand(*arrays(model), R) - 0.1 * by_hand(*arrays(model), F)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert order == ["forward", "backward"] * 2
    assert loop.budget.steps == 1


def test_a_part_that_is_no_number_stops_the_step() -> None:
    model = linear()
    loop = Loop(ModuleTask(nn.CrossEntropyLoss(reduction="none")), torch.Generator(), Budget(1), Heard())
    weights = [p.detach().clone() for p in model.parameters()]
    total = sum(p.sum() for p in model.parameters())
    with pytest.raises(Diverged):
        loop.step(loop.optimizer(model, 0.1), (total, total * float("nan")))
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_a_part_of_a_budget_is_charged_to_the_whole() -> None:
    whole = Budget(10, spent=2)
    part = whole.part(0.5)
    assert part.limit == 4
    part.charge(3)
    assert (part.spent, whole.spent) == (3, 5)
    with pytest.raises(BudgetSpent):
        part.charge(2)
    assert (part.spent, whole.spent) == (3, 5)
