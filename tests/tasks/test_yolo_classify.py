# SPDX-License-Identifier: AGPL-3.0-or-later
"""The Task protocol for classification."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tasks import yolo_kit
from torch.func import functional_call, grad, vmap
from torch.utils.data import ConcatDataset, Subset


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a small classifier."""
    return yolo_kit.make(tmp_path_factory.mktemp("classify"), "classify")


def test_losses_equal_those_of_single_images(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1, 2, 3)
    losses = one.task.loss(model, batch)
    for i in range(4):
        single = {"img": batch["img"][i : i + 1], "cls": batch["cls"][i : i + 1]}
        assert torch.allclose(losses[i], model.criterion(model(single["img"]), single)[0], atol=1e-6)
    assert losses.unique().numel() == 4


class Loss(torch.nn.Module):
    """The loss of one sample, as a module."""

    def __init__(self, task: Any, model: torch.nn.Module) -> None:
        super().__init__()
        self.task, self.inner = task, model

    def forward(self, sample: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of an unbatched sample."""
        value: torch.Tensor = self.task.loss(self.inner, {k: v[None] for k, v in sample.items()})
        return value.sum()


def test_gradients_of_all_samples_at_once_equal_a_loop(one: yolo_kit.Kit) -> None:
    assert one.task.vectorised
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1, 2)
    wrapped = Loss(one.task, model)
    weights = {f"inner.{k}": p.detach() for k, p in one.task.parameters(model).items()}
    found = vmap(grad(lambda w, s: functional_call(wrapped, w, (s,))), in_dims=(None, 0))(weights, batch)
    for i in range(3):
        losses = one.task.loss(model, one.batch(i))
        truth = torch.autograd.grad(losses.sum(), list(one.task.parameters(model).values()))
        for name, value in zip(one.task.parameters(model), truth, strict=True):
            assert torch.allclose(found[f"inner.{name}"][i], value, atol=1e-5)


def test_divergence(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1)
    teacher = one.task.outputs(model, batch)
    assert torch.equal(one.task.divergence(teacher, teacher), torch.zeros(2))
    student = {"logits": (teacher["logits"].detach() + torch.eye(2, 3)).requires_grad_()}
    value = one.task.divergence(student, teacher)
    p, q = teacher["logits"].softmax(1), student["logits"].softmax(1)
    assert torch.allclose(value, (p * (p / q).log()).sum(1), atol=1e-6)
    assert (value > 0).all()
    value.sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert student["logits"].grad is not None
    assert torch.allclose(one.task.square_norm(teacher), (teacher["logits"] ** 2).sum(1))


def test_targets(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(*range(8))
    draws = [one.task.wrong_targets(model, batch, yolo_kit.seeded(i))["cls"] for i in range(6)]
    assert all((draw != batch["cls"]).all() for draw in draws)
    assert torch.equal(draws[0], one.task.wrong_targets(model, batch, yolo_kit.seeded(0))["cls"])
    assert {int(d[0]) for d in draws} == {0, 1, 2} - {int(batch["cls"][0])}, "all wrong classes are drawn"
    own = one.task.own_targets(model, batch)
    assert not one.task.misclassified(model, own).any()
    assert one.task.misclassified(model, {**own, "cls": (own["cls"] + 1) % 3}).all()
    assert torch.equal(one.task.predicts(model, batch, [0, 2]), own["cls"] != 1)
    hidden = one.task.suppress(one.task.outputs(model, batch), batch)["logits"]
    assert (hidden.argmax(1) != batch["cls"]).all()
    assert ((hidden == -1e4).sum(1) == 1).all()


def test_features_are_the_inputs_of_the_last_layer(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1)
    features = one.task.features(model, batch)
    assert features.shape == (2, 1280)
    logits = one.task.outputs(model, batch)["logits"]
    assert torch.allclose(model.model[-1].linear(features), logits, atol=1e-5)


def test_inputs_have_gradients_and_statistics_do_not_change(one: yolo_kit.Kit) -> None:
    model, batch = one.task.clone(one.opened.module), one.batch(0, 1)
    before = yolo_kit.statistics(model)
    moving = one.task.inputs(batch).clone().requires_grad_()
    assert one.task.input_range(batch) == (0.0, 1.0)
    assert 0 <= moving.min() < moving.max() <= 1
    one.task.loss(model, one.task.with_inputs(batch, moving)).sum().backward()
    assert moving.grad is not None
    assert moving.grad.abs().sum() > 0
    one.task.evaluate(model, one.data)
    assert yolo_kit.equal(before, yolo_kit.statistics(model))


def test_metrics(one: yolo_kit.Kit) -> None:
    model = one.task.clone(one.opened.module)
    whole = one.task.evaluate(model, one.data)
    wrong = sum(int(one.task.misclassified(model, one.batch(i))) for i in range(len(one.data)))
    assert whole["top1"] == pytest.approx(1 - wrong / len(one.data), abs=1e-4)
    assert whole["top5"] == 1.0
    parts = ConcatDataset([Subset(one.data, [1, 0]), Subset(one.data, list(range(2, len(one.data))))])
    assert one.task.evaluate(model, parts) == whole
    assert one.task.evaluate(model, Subset(one.data, [])) == {}
