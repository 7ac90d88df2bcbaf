# SPDX-License-Identifier: Apache-2.0
"""Steps and budgets, which all methods share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from methods.runs import CountingProgress
from methods.test_formulas_a import CLASSES, F, R, arrays, by_hand, linear
from torch import nn

from expunge.methods.base import FORWARD, Budget, BudgetSpent, Diverged, Loop, clip
from expunge.methods.teacher import Teacher
from expunge.tasks.module import ModuleTask


def test_losses_of_a_step_are_summed_one_by_one() -> None:
    model, order = linear(), []
    loop = Loop(
        ModuleTask(nn.CrossEntropyLoss(reduction="none")), torch.Generator(), Budget(1), CountingProgress()
    )

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


def test_a_non_finite_loss_stops_the_step() -> None:
    model = linear()
    loop = Loop(
        ModuleTask(nn.CrossEntropyLoss(reduction="none")), torch.Generator(), Budget(1), CountingProgress()
    )
    weights = [p.detach().clone() for p in model.parameters()]
    total = sum(p.sum() for p in model.parameters())
    with pytest.raises(Diverged):
        loop.step(loop.optimizer(model, 0.1), (total, total * float("nan")))
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_a_partial_budget_charges_the_whole_budget() -> None:
    whole = Budget(10, spent=2)
    part = whole.part(0.5)
    assert part.limit == 4
    part.charge(3)
    assert (part.spent, whole.spent) == (3, 5)
    with pytest.raises(BudgetSpent):
        part.charge(2)
    assert (part.spent, whole.spent) == (3, 5)


@pytest.mark.parametrize("most", [0.5, 50.0])
def test_gradients_are_clipped_as_torch_clips_them(most: float) -> None:
    draws = torch.Generator().manual_seed(0)
    ours = [torch.randn(shape, generator=draws) for shape in ((3, 4), (5,), ())]
    theirs = [nn.Parameter(torch.zeros_like(g)) for g in ours]
    for parameter, gradient in zip(theirs, ours, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(theirs, most)
    clip(ours, most)
    for parameter, gradient in zip(theirs, ours, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_an_infinite_gradient_stays_infinite() -> None:
    gradients = [torch.tensor([float("inf"), 1.0])]
    clip(gradients, 1.0)
    assert not torch.isfinite(gradients[0]).all()
    clip([], 1.0)


def make_teacher(requests: int, limit_bytes: int = 1 << 20) -> tuple[Teacher, Budget, nn.Module]:
    model, budget = linear(), Budget(1000)
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    loop = Loop(task, torch.Generator(), budget, CountingProgress())
    return Teacher(model, R, loop, requests, limit_bytes), budget, model


ROW = 4 * CLASSES  # bytes of what it says of a sample


@pytest.mark.parametrize(
    ("requests", "limit", "again"), [(2, 1 << 20, 0), (1, 1 << 20, 1), (2, 4 * ROW, 1), (2, 0, 1)]
)
def test_a_teacher_repeats_its_outputs_and_is_charged_once_for_cached_ones(
    requests: int, limit: int, again: int
) -> None:
    teacher, budget, model = make_teacher(requests, limit)
    x = R.tensors[0]
    cuts = [[2, 0, 5], [1, 3, 4]]
    first = [teacher.outputs(places, R[places])["logits"] for places in cuts]
    paid = budget.spent
    assert paid == pytest.approx(6 * FORWARD)
    for places, outputs in zip(cuts, first, strict=True):
        torch.testing.assert_close(outputs, model(x[places]).detach())
        torch.testing.assert_close(teacher.outputs(places, R[places])["logits"], outputs)
        torch.testing.assert_close(teacher.outputs(places[::-1], R[places[::-1]])["logits"], outputs.flip(0))
    assert budget.spent - paid == pytest.approx(again * 2 * 6 * FORWARD)


def test_a_teacher_with_a_partial_cache_uses_it_only_for_cached_samples() -> None:
    teacher, budget, _ = make_teacher(2, 4 * ROW)
    for places, paid in (([0, 1, 8], 3), ([0, 1], 3), ([3, 2], 5), ([1, 3], 5), ([1, 8], 7)):
        teacher.outputs(places, R[places])
        assert budget.spent == pytest.approx(paid * FORWARD)
