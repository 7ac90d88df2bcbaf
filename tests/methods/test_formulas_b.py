# SPDX-License-Identifier: Apache-2.0
"""Importance, dampening, Newton steps and re-initialisation, against simple code and hand computation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from expunge.methods.base import Budget, BudgetSpent, Loop
from expunge.methods.fisher import importance, per_sample_gradients
from expunge.methods.influence import gram_matrix, influence, newton_step, removal_gradient, woodbury
from expunge.methods.msg import accumulate_difference, msg, rate_factor, reinitialise, smallest_mask
from expunge.methods.ssd import dampen, ssd
from expunge.tasks.module import ModuleTask


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Quiet:
    def images(self, count: int) -> None:
        pass

    def round(self, model: nn.Module) -> None:
        pass


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loop(task: ModuleTask, limit: float = 1e9) -> Loop:
    return Loop(task, draws(), Budget(limit), Quiet())


def arguments(limit: float = 1e9) -> dict[str, Any]:
    return {"generator": draws(), "budget": Budget(limit), "progress": Quiet()}


def task() -> ModuleTask:
    return ModuleTask(nn.CrossEntropyLoss(reduction="none"))


def network(kind: str) -> nn.Module:
    torch.manual_seed(3)
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 4))
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


def pictures(count: int, seed: int = 1) -> TensorDataset:
    x = torch.randn(count, 1, 6, 6, generator=draws(seed))
    return TensorDataset(x, torch.randint(4, (count,), generator=draws(seed + 1)))


class Forking(nn.Module):
    """A model that vmap does not support: its control flow depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network("mlp")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        return out * 2 if float(x.sum()) > 0 else out


def one_by_one(model: nn.Module, data: TensorDataset, *, squared: bool = True) -> dict[str, torch.Tensor]:
    """Return the mean of g², computed by a plain loop of autograd."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for x, y in data:
        model.zero_grad()
        nn.functional.cross_entropy(model(x[None]), y[None]).backward()
        for name, p in model.named_parameters():
            if p.requires_grad:
                assert p.grad is not None
                total[name] += p.grad.square() if squared else p.grad.abs()
    return {name: value / len(data) for name, value in total.items()}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("kind", ["mlp", "cnn", "forking"])
def test_importance_equals_a_plain_loop(kind: str, squared: bool, batched: bool) -> None:
    t, data = task(), pictures(67)
    t.vectorised = batched
    model = t.clone(Forking() if kind == "forking" else network(kind))
    found, seen = importance(loop(t), model, data, t.loss, squared=squared)
    truth = one_by_one(model, data, squared=squared)
    assert seen == 67
    assert set(found) == set(truth)
    for name in truth:
        torch.testing.assert_close(found[name], truth[name], rtol=1e-4, atol=1e-7)


def test_frozen_weights_have_no_importance_and_the_model_does_not_change() -> None:
    t, model = task(), network("cnn")
    model[0].requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found, _ = importance(loop(t), t.clone(model), pictures(9), t.loss)
    assert not [name for name in found if name.startswith("0.")]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_importance_of_batches_is_the_square_of_their_mean_gradient() -> None:
    t, data = task(), pictures(8)
    model = t.clone(network("mlp"))
    found, _ = importance(loop(t), model, data, t.loss, batch=8)
    model.zero_grad()
    nn.functional.cross_entropy(model(data.tensors[0]), data.tensors[1]).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(found[name], p.grad.square(), rtol=1e-4, atol=1e-8)
    single, _ = importance(loop(t), model, data, t.loss)
    assert not torch.allclose(single["1.weight"], found["1.weight"], rtol=0.1)


def test_importance_respects_the_budget() -> None:
    t = task()
    t.vectorised = False
    used = loop(t, limit=5)
    _, seen = importance(used, t.clone(network("mlp")), pictures(20), t.loss)
    assert seen == 5
    assert used.budget.spent == 5


def test_dampening_by_hand() -> None:
    weights = torch.tensor([2.0, -4.0, 3.0, 5.0, 1.0, 7.0])
    on_all = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0, 0.0])
    on_forget = torch.tensor([20.0, 40.0, 10.0, 4.0, 1.0, 0.0])
    # I_D / I_F = 1/20 and 1/40; 10 is not more than 10·1, 4 not more than 5; 0/1; nothing to compare.
    assert dampen(weights, on_all, on_forget, 10, 1).tolist() == pytest.approx(
        [0.1, -0.1, 3.0, 5.0, 0.0, 7.0]
    )
    # λ = 30 would enlarge the first (1.5): at most 1; the second is 0.75.
    assert dampen(weights, on_all, on_forget, 10, 30).tolist() == pytest.approx(
        [2.0, -3.0, 3.0, 5.0, 0.0, 7.0]
    )


def test_ssd_changes_only_weights_selected_by_the_rule() -> None:
    t, model = task(), network("mlp")
    forget, retain = pictures(6, seed=5), pictures(60, seed=7)
    changed = ssd(model, forget, retain, t, **arguments(), alpha=3.0, averaged=1)
    everything = TensorDataset(
        *(torch.cat(pair) for pair in zip(retain.tensors, forget.tensors, strict=True))
    )
    on_forget, on_all = one_by_one(model.eval(), forget), one_by_one(model, everything)
    chosen = 0
    for (name, new), old in zip(changed.named_parameters(), model.parameters(), strict=True):
        mask = on_forget[name] > 3 * on_all[name]
        truth = torch.where(mask, old * (on_all[name] / on_forget[name]), old)
        torch.testing.assert_close(new, truth, rtol=1e-3, atol=1e-6)
        assert torch.equal(new[~mask], old[~mask])
        chosen += int(mask.sum())
    assert 0 < chosen < sum(p.numel() for p in model.parameters())


def test_single_samples_select_nothing_for_a_large_forget_set() -> None:
    """I_D ≥ (|F|/|D|)·I_F, so with α = 10 and a tenth of the data no weight changes."""
    t, model = task(), network("mlp")
    same = ssd(model, pictures(8), pictures(70, seed=9), t, **arguments(), averaged=1)
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), model.parameters(), strict=True))


def test_ssd_without_budget_is_an_error() -> None:
    with pytest.raises(BudgetSpent):
        ssd(network("mlp"), pictures(8), pictures(70), task(), **arguments(limit=8))


# Influence: a logistic regression with a ridge has an optimum, a Hessian and a retrain that are exact.


class Logistic:
    """Mean logistic loss with a ridge, in float64."""

    def __init__(self, count: int = 120, size: int = 5, ridge: float = 0.05) -> None:
        self.x = torch.randn(count, size, generator=draws(4), dtype=torch.float64)
        true = torch.randn(size, generator=draws(5), dtype=torch.float64)
        noise = torch.randn(count, generator=draws(6), dtype=torch.float64)
        self.y = (self.x @ true + noise > 0).double()
        self.ridge = ridge

    def gradients(self, theta: torch.Tensor, rows: slice) -> torch.Tensor:
        """Return the gradients of each sample's loss, including its share of the ridge (b, d)."""
        p = torch.sigmoid(self.x[rows] @ theta)
        return (p - self.y[rows])[:, None] * self.x[rows] + self.ridge * theta

    def hessian(self, theta: torch.Tensor, rows: slice) -> torch.Tensor:
        p = torch.sigmoid(self.x[rows] @ theta)
        curved = self.x[rows].T @ ((p * (1 - p))[:, None] * self.x[rows]) / len(p)
        return curved + self.ridge * torch.eye(len(theta), dtype=torch.float64)

    def optimum(self, rows: slice) -> torch.Tensor:
        theta = torch.zeros(self.x.shape[1], dtype=torch.float64)
        for _ in range(50):
            theta = theta - torch.linalg.solve(self.hessian(theta, rows), self.gradients(theta, rows).mean(0))
        assert self.gradients(theta, rows).mean(0).norm() < 1e-12
        return theta


def test_the_newton_step_equals_the_closed_form() -> None:
    problem = Logistic()
    forget, retain, both = slice(0, 12), slice(12, 120), slice(0, 120)
    theta, retrained = problem.optimum(both), problem.optimum(retain)
    g_forget, g_retain = (problem.gradients(theta, rows).sum(0) for rows in (forget, retain))
    hessian = problem.hessian(theta, retain)
    step = newton_step(hessian, removal_gradient(g_forget, g_retain, 12, 108))
    # At the optimum over all, it is Newton's step on the retain loss …
    explicit = -np.linalg.inv(hessian.numpy()) @ (g_retain / 108).numpy()
    np.testing.assert_allclose(step.numpy(), explicit, rtol=1e-8, atol=1e-12)
    # … which is H⁻¹ Σ_F ∇ℓ / |R| …
    np.testing.assert_allclose(
        step.numpy(), np.linalg.inv(hessian.numpy()) @ (g_forget / 108).numpy(), rtol=1e-8
    )
    # … and lands much closer to the retrained optimum than the start; with the wrong sign it goes away.
    before = float((theta - retrained).norm())
    assert float((theta + step - retrained).norm()) < 0.1 * before
    assert float((theta - step - retrained).norm()) > before


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_the_gram_matrix_is_complete(count: int) -> None:
    gradients = torch.randn(count, 11, generator=draws(5), dtype=torch.float64)
    torch.testing.assert_close(gram_matrix(gradients, 4), gradients @ gradients.T)


def test_woodbury_is_the_explicit_inverse() -> None:
    gradients = torch.randn(7, 11, generator=draws(2), dtype=torch.float64)
    vector = torch.randn(11, generator=draws(3), dtype=torch.float64)
    fisher = gradients.T @ gradients / 7
    torch.testing.assert_close(woodbury(gradients, vector, 0.3), newton_step(fisher, vector, 0.3))
    # WoodFisher's recursion (Singh and Alistarh 2020), one gradient at a time.
    inverse = torch.eye(11, dtype=torch.float64) / 0.3
    for g in gradients:
        turned = inverse @ g
        inverse = inverse - torch.outer(turned, turned) / (7 + g @ turned)
    torch.testing.assert_close(woodbury(gradients, vector, 0.3), inverse @ vector)


def test_gradients_of_single_samples_add_up() -> None:
    t, data = task(), pictures(33)
    model = t.clone(network("cnn"))
    total = sum(g["0.weight"].sum(0) for g in per_sample_gradients(loop(t), model, data, t.loss))
    t.loss(model, (data.tensors[0], data.tensors[1])).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(total, model[0].weight.grad, rtol=1e-4, atol=1e-5)


def test_influence_raises_mainly_the_forget_loss() -> None:
    t = task()
    forget, retain = pictures(10, seed=5), pictures(80, seed=7)
    both = TensorDataset(*(torch.cat(pair) for pair in zip(forget.tensors, retain.tensors, strict=True)))
    model = network("mlp")
    descent = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        descent.zero_grad()
        nn.functional.cross_entropy(model(both.tensors[0]), both.tensors[1]).backward()
        descent.step()
    after = influence(model, forget, retain, t, **arguments(), rise=0.5)
    gained = t.evaluate(after, forget)["loss"] - t.evaluate(model, forget)["loss"]
    lost = t.evaluate(after, retain)["loss"] - t.evaluate(model, retain)["loss"]
    assert 0.01 < gained <= 0.5
    assert lost < 0.2 * gained
    with pytest.raises(BudgetSpent):
        influence(model, forget, retain, t, **arguments(limit=50))


# MSG.


@pytest.mark.parametrize("share", [0.3, 0.55])
def test_msg_selects_the_smallest_gradients_of_each_layer(share: float) -> None:
    t = task()
    model = t.clone(network("cnn"))
    accumulate_difference(model, pictures(9), pictures(30, seed=8), loop(t), 4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    reinitialise(model, t, share, draws())
    for name, weight in model.named_parameters():
        if name not in ("0.weight", "3.weight", "5.weight"):
            assert torch.equal(weight, before[name]), name
            continue
        size = np.abs(gradients[name].numpy()).ravel()
        expected = np.zeros(len(size), dtype=bool)
        expected[np.argsort(size, kind="stable")[: round(share * len(size))]] = True
        np.testing.assert_array_equal((weight != before[name]).flatten().numpy(), expected)


def test_smallest_by_hand() -> None:
    gradient = torch.tensor([[3.0, -0.1, 5.0], [-4.0, 0.2, -1.0]])
    assert smallest_mask(gradient, 0.5).tolist() == [[False, True, False], [False, True, True]]


def test_the_gradient_of_msg_is_retain_minus_forget() -> None:
    t = task()
    model, forget, retain = t.clone(network("mlp")), pictures(9), pictures(9, seed=8)
    accumulate_difference(model, forget, retain, loop(t), 4)
    found = model[1].weight.grad.clone()
    model.zero_grad()
    (
        t.loss(model, (retain.tensors[0], retain.tensors[1])).mean()
        - t.loss(model, (forget.tensors[0], forget.tensors[1])).mean()
    ).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, model[1].weight.grad, rtol=1e-4, atol=1e-6)


def test_kept_weights_have_a_tenth_of_the_rate() -> None:
    """One AdamW step changes every weight by about the learning rate, so the rate is visible directly."""
    t = task()
    forget, retain = pictures(9), pictures(16, seed=8)
    marked = t.clone(network("mlp"))
    accumulate_difference(marked, forget, retain, loop(t), 16)
    chosen = smallest_mask(marked[1].weight.grad, 0.3)
    start = network("mlp")[1].weight.detach()
    after = msg(network("mlp"), forget, retain, t, **arguments(), lr=1e-3, epochs=1, batch=16)[
        1
    ].weight.detach()
    moved = (after - start).abs()[~chosen]
    assert float(moved.max()) <= 1.01e-4
    assert float(moved.median()) > 0.9e-4
    assert float((after - start).abs()[chosen].median()) > 1e-2


def test_the_rate_rises_and_falls() -> None:
    assert [rate_factor(e, 5) for e in range(5)] == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    assert [rate_factor(e, 1) for e in range(1)] == [1]
    assert [rate_factor(e, 4) for e in range(4)] == pytest.approx([1 / 2, 1, 2 / 3, 1 / 3])
