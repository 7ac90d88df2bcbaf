# SPDX-License-Identifier: Apache-2.0
"""Rules of methods compared with hand computation: gradients, masks, schedules and the order of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from methods.runs import AMPLE, CountingProgress
from torch import nn
from torch.utils.data import TensorDataset

from expunge.errors import InputError
from expunge.methods import base, scrub
from expunge.methods.base import FORWARD, Budget, BudgetSpent, Loop, get_method
from expunge.methods.l1_sparse import strength
from expunge.methods.npo import npo_loss
from expunge.methods.salun import saliency_mask
from expunge.tasks.module import ModuleTask
from expunge.tasks.protocol import Samples

FORGET, RETAIN, SIDE, CLASSES = 5, 9, 4, 3


def linear(seed: int = 0) -> nn.Sequential:
    """Return softmax regression, whose gradients have a closed form."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(SIDE, CLASSES))


def deep(seed: int = 0) -> nn.Sequential:
    """Return a model with several layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(SIDE, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Linear(6, 6),
        nn.BatchNorm1d(6),
        nn.Linear(6, CLASSES),
    )


def samples(count: int, seed: int) -> TensorDataset:
    """Return random samples."""
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(count, SIDE, generator=generator),
        torch.randint(0, CLASSES, (count,), generator=generator),
    )


F, R = samples(FORGET, 1), samples(RETAIN, 2)


def run(
    name: str, model: nn.Module, *, limit: float = AMPLE, **values: Any
) -> tuple[nn.Module, Budget, CountingProgress]:
    """Run a method on the samples above."""
    budget, heard = Budget(limit), CountingProgress()
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    generator = torch.Generator().manual_seed(0)
    done = get_method(name).function(
        model, F, R, task, generator=generator, budget=budget, progress=heard, **values
    )
    return done, budget, heard


def by_hand(weight: np.ndarray, bias: np.ndarray, data: TensorDataset) -> np.ndarray:
    """Return the gradient of softmax regression's mean cross-entropy, (p − y)·xᵀ and p − y, as one row."""
    x, y = (t.numpy().astype(np.float64) for t in data.tensors)
    logits = x @ weight.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y.astype(int)] -= 1
    return np.concatenate([(p.T @ x / len(x)).ravel(), p.mean(0)])


def arrays(model: nn.Sequential) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias in double precision."""
    return tuple(p.detach().numpy().astype(np.float64) for p in model[0].parameters())  # type: ignore[return-value]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Record the gradient of every step, as one vector, before it is clipped."""
    found: list[np.ndarray] = []
    original = Loop.step

    def recorded(
        self: Loop,
        optimizer: torch.optim.Optimizer,
        loss: torch.Tensor,
        change: Callable[[], None] | None = None,
    ) -> None:
        def keep() -> None:
            if change is not None:
                change()
            live = [p for group in optimizer.param_groups for p in group["params"]]
            found.append(np.concatenate([p.grad.numpy().ravel().astype(np.float64) for p in live]))

        original(self, optimizer, loss, keep)

    monkeypatch.setattr(base.Loop, "step", recorded)
    return found


def test_neggrad_plus_descends_and_ascends_at_once(steps: list[np.ndarray]) -> None:
    model = linear()
    run("neggrad_plus", model, beta=0.9, epochs=1, batch=RETAIN)
    expected = 0.9 * by_hand(*arrays(model), R) - 0.1 * by_hand(*arrays(model), F)
    assert len(steps) == 1
    np.testing.assert_allclose(steps[0], expected, atol=1e-6)


def test_npo_starts_as_ascent_at_every_beta(steps: list[np.ndarray]) -> None:
    # ℓ = ℓ_o at the start, where 2·σ(0) = 1: the first gradient is that of ascent whatever β is.
    model = linear()
    for beta in (0.1, 1.0, 5.0):
        run("npo", model, beta=beta, alpha=0.0, epochs=1, batch=RETAIN)
    for step in steps:
        np.testing.assert_allclose(step, -by_hand(*arrays(model), F), atol=1e-6)


def test_npo_tends_to_ascent_for_small_beta_and_stops_otherwise() -> None:
    start, now = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.5, 3.0, 9.0], requires_grad=True)
    (small,) = torch.autograd.grad(npo_loss(now, start, 1e-6).sum(), now)
    torch.testing.assert_close(small, -torch.ones(3), atol=1e-4, rtol=0)
    (large,) = torch.autograd.grad(npo_loss(now, start, 1.0).sum(), now)
    torch.testing.assert_close(large, -2 / (1 + torch.exp(torch.tensor([0.0, 2.5, 8.5]))))
    assert large[2].abs() < 1e-3


def test_npo_limit_along_a_whole_run(steps: list[np.ndarray]) -> None:
    model = linear()
    run("npo", model, beta=1e-5, alpha=0.0, epochs=6, batch=RETAIN, lr=1e-2)
    follow = linear(1)
    follow.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(follow.parameters(), lr=1e-2, weight_decay=0.0)
    x, y = F.tensors
    for step in steps:
        np.testing.assert_allclose(step, -by_hand(*arrays(follow), F), atol=1e-4)
        optimizer.zero_grad()
        (-nn.functional.cross_entropy(follow(x), y)).backward()
        optimizer.step()


def test_npo_pairs_each_sample_with_its_original_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    # In random batches of two, each sample must be paired with its own ℓ_o and so start at 2/β·log 2.
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        "expunge.methods.npo.npo_loss", lambda loss, start, beta: seen.append(loss - start) or loss
    )
    run("npo", deep(), epochs=1, batch=2, lr=0.0)
    assert torch.cat(seen).abs().max() < 1e-6
    assert sum(map(len, seen)) == FORGET


def test_salient_weights_are_the_upper_half_by_numpys_median() -> None:
    model = deep().eval()
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    budget = Budget(AMPLE)
    masks = saliency_mask(model, F, Loop(task, torch.Generator(), budget, CountingProgress()), batch=2)
    x, y = F.tensors
    gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    sizes = np.concatenate([g.abs().numpy().ravel() for g in gradients])
    mask = torch.cat([m.flatten() for _, m in masks]).numpy()
    np.testing.assert_array_equal(mask, sizes >= np.median(sizes))
    assert [p.shape for p, _ in masks] == [m.shape for _, m in masks]
    assert budget.spent == FORGET


def test_salun_changes_only_salient_weights() -> None:
    model = deep().eval()
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    masks = saliency_mask(
        model, F, Loop(task, torch.Generator(), Budget(AMPLE), CountingProgress()), batch=16
    )
    after = list(run("salun", model, epochs=3, lr=1e-2)[0].parameters())
    for (before, mask), now in zip(masks, after, strict=True):
        assert torch.equal(before[~mask], now[~mask])
    assert any(not torch.equal(p, now) for (p, _), now in zip(masks, after, strict=True))


def test_random_labels_are_wrong_only_for_the_forget_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = ModuleTask.loss
    monkeypatch.setattr(
        ModuleTask, "loss", lambda self, model, batch: seen.append(batch) or original(self, model, batch)
    )
    run("random_label", linear(), epochs=4, batch=RETAIN)
    truth = {tuple(x.tolist()): int(y) for data in (F, R) for x, y in zip(*data.tensors, strict=True)}
    leaves = {tuple(x.tolist()) for x in F.tensors[0]}
    for x, y in seen:
        for row, label in zip(x, y, strict=True):
            wrong = truth[tuple(row.tolist())] != int(label)
            assert wrong == (tuple(row.tolist()) in leaves)
    assert len(seen) == 8


def test_the_penalty_decays_linearly() -> None:
    assert [strength(1.0, t, 4) for t in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_the_penalty_depends_on_the_epoch(steps: list[np.ndarray]) -> None:
    model = linear()
    run("l1_sparse", model, gamma=0.3, epochs=3, batch=RETAIN, lr=0.0)
    weight, bias = arrays(model)
    sign = np.sign(np.concatenate([weight.ravel(), bias]))
    for step, gamma in zip(steps, (0.3, 0.2, 0.1), strict=True):
        np.testing.assert_allclose(step, by_hand(weight, bias, R) + gamma * sign, atol=1e-6)


def test_scrub_alternates_and_ends_with_min_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    original = Loop.step

    def step(self: Loop, optimizer: Any, loss: torch.Tensor, change: Any = None) -> None:
        # A max step descends on minus a divergence, which is 0 or less; a min step on a cross-entropy.
        parts = [loss] if isinstance(loss, torch.Tensor) else list(loss)
        order.append("min" if sum(parts) > 1e-3 else "max")
        original(self, optimizer, parts, change)

    monkeypatch.setattr(base.Loop, "step", step)
    monkeypatch.setattr(CountingProgress, "round", lambda self, model: order.append("round"))
    run("scrub", linear(), epochs=4, max_epochs=2, batch=4)
    # 5 samples to forget and 9 to retain in batches of 4: two max and three min steps an epoch.
    repair = ["min", "min", "min", "round"]
    assert order == [*["max", "max", *repair] * 2, *repair * 2]


def test_a_scrub_min_step_combines_divergence_and_loss(steps: list[np.ndarray]) -> None:
    model = linear()
    run("scrub", model, alpha=0.5, gamma=0.7, epochs=1, max_epochs=0, batch=RETAIN)
    # The student is the teacher at the start: the gradient of the divergence is zero.
    np.testing.assert_allclose(steps[0], 0.7 * by_hand(*arrays(model), R), atol=1e-6)


def test_scrub_charges_the_teacher_and_both_passes_of_a_min_step() -> None:
    _, budget, _ = run("scrub", linear(), epochs=2, max_epochs=1, batch=4)
    teacher = FORWARD * (FORGET + RETAIN)  # once, since its outputs do not change
    assert budget.spent == pytest.approx(teacher + FORGET + 2 * 2 * RETAIN)


@pytest.mark.parametrize(("goal", "epoch"), [(0.0, 0), (0.35, 2), (1.0, 3)])
def test_scrub_rewinds_to_the_epoch_closest_to_the_reference_error(
    monkeypatch: pytest.MonkeyPatch, goal: float, epoch: int
) -> None:
    errors, states = [0.1, 0.9, 0.4, 0.9], []

    def error(model: nn.Module, *_: Any) -> float:
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return errors[len(states) - 1]

    monkeypatch.setattr(scrub, "_error", error)
    found, _, _ = run("scrub_rewind", linear(), unseen=goal, epochs=4, batch=4, lr=1e-2)
    assert len(states) == 4
    assert all(torch.equal(value, states[epoch][name]) for name, value in found.state_dict().items())


def test_scrub_rewind_measures_unseen_samples_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen, asked = samples(7, 3), []

    def error(model: nn.Module, data: Samples, *_: Any) -> float:
        asked.append(data)
        return 0.5

    monkeypatch.setattr(scrub, "_error", error)
    run("scrub_rewind", linear(), unseen=unseen, epochs=3)
    assert asked == [F, F, F, unseen]


@pytest.mark.parametrize("unseen", [-0.1, 1.5, samples(0, 0)])
def test_scrub_rewind_requires_a_reference(unseen: Any) -> None:
    with pytest.raises(InputError, match="reference error"):
        run("scrub_rewind", linear(), unseen=unseen)


def test_bad_teacher_uses_one_teacher_per_set(monkeypatch: pytest.MonkeyPatch) -> None:
    model, untrained = linear(), linear(9)
    monkeypatch.setattr(ModuleTask, "fresh", lambda self, model, generator: untrained.eval())
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = ModuleTask.divergence

    def divergence(self: ModuleTask, student: Any, teacher: Any) -> torch.Tensor:
        seen.append(teacher["logits"])
        return original(self, student, teacher)

    monkeypatch.setattr(ModuleTask, "divergence", divergence)
    run("bad_teacher", model, part=1.0, batch=RETAIN, lr=1e-2)
    by_rows = {len(logits): logits for logits in seen}
    assert sorted(by_rows) == [FORGET, RETAIN]
    for data, teacher in ((F, untrained), (R, model)):
        expected = teacher(data.tensors[0]).detach()
        got = by_rows[len(data)]
        order = torch.cdist(got, expected).argmin(1)
        torch.testing.assert_close(got, expected[order])
        assert len(set(order.tolist())) == len(data)


@pytest.mark.parametrize(("part", "batches"), [(1.0, 3), (0.5, 1), (0.01, 1)])
def test_bad_teacher_uses_a_part_of_the_retain_set(part: float, batches: int) -> None:
    _, budget, _ = run("bad_teacher", linear(), part=part, batch=4)
    assert budget.steps == 2 + batches
    assert budget.spent == pytest.approx((1 + FORWARD) * (FORGET + max(round(part * RETAIN), 1)))


@pytest.mark.parametrize("name", ["cf_k", "eu_k"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_only_the_last_layers_change(name: str, k: int) -> None:
    model = deep()
    layers = ModuleTask(nn.CrossEntropyLoss(reduction="none")).layers(model)
    last = {id(p) for layer in layers[-k:] for p in layer.parameters()}
    after = dict(run(name, model, k=k, epochs=2, lr=1e-2, batch=4)[0].named_parameters())
    for parameter_name, before in model.named_parameters():
        assert torch.equal(before, after[parameter_name]) != (id(before) in last)
        assert after[parameter_name].requires_grad


def test_eu_k_discards_the_last_layers() -> None:
    # Two models that differ only in the last layer become equal.
    one, two = deep(), deep()
    with torch.no_grad():
        two[5].weight += 1
        two[5].bias -= 3
    first, second = (run("eu_k", m, k=1, epochs=1)[0].state_dict() for m in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_eu_k_updates_statistics_only_in_the_last_layers() -> None:
    model = deep()
    model[4].running_mean += 5
    after = run("eu_k", model, k=2, epochs=30, batch=RETAIN, lr=0.0)[0]
    assert torch.equal(after[1].running_mean, model[1].running_mean)
    with torch.no_grad():
        inputs = after[:4](R.tensors[0])
    torch.testing.assert_close(after[4].running_mean, inputs.mean(0), atol=0.1, rtol=0.1)
    assert not after[4].training


@pytest.mark.parametrize("k", [0, 6])
def test_too_many_layers_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"no last {k} layers"):
        run("cf_k", deep(), k=k)


@pytest.mark.parametrize("name", ["cf_k", "eu_k"])
def test_frozen_last_layers_are_refused(name: str) -> None:
    model = deep()
    model[5].requires_grad_(False)
    with pytest.raises(InputError, match="may be changed"):
        run(name, model, k=1)


@pytest.mark.parametrize("name", ["npo", "salun"])
def test_preparations_require_their_budget(name: str) -> None:
    with pytest.raises(BudgetSpent):
        run(name, linear(), limit=1)
