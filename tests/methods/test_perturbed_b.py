# SPDX-License-Identifier: Apache-2.0
"""Adversarial examples, relabelling, noise, masked distillation and rewinding against their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge.errors import InputError
from expunge.methods.amun import amun, attack, counterparts
from expunge.methods.base import Budget, BudgetSpent, Loop
from expunge.methods.boundary_shrink import boundary_shrink, neighbours
from expunge.methods.delete import delete
from expunge.methods.retrain import retrain
from expunge.methods.rewind import descend, noise_scale, rewind
from expunge.methods.unsir import error_maximising_noise, unsir
from expunge.tasks.module import ModuleTask


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Quiet:
    def __init__(self) -> None:
        self.rounds = 0

    def images(self, count: int) -> None:
        pass

    def round(self, model: nn.Module) -> None:
        self.rounds += 1


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arguments(limit: float = 1e9) -> dict[str, Any]:
    return {"generator": draws(), "budget": Budget(limit), "progress": Quiet()}


def task() -> ModuleTask:
    return ModuleTask(nn.CrossEntropyLoss(reduction="none"))


def loop(t: ModuleTask, limit: float = 1e9) -> Loop:
    return Loop(t, draws(), Budget(limit), Quiet())


def clouds(count: int = 240, spread: float = 0.4) -> TensorDataset:
    """Return samples of four clouds in eight dimensions."""
    centres = torch.randn(4, 8, generator=draws(1))
    y = torch.arange(count) % 4
    return TensorDataset(centres[y] + spread * torch.randn(count, 8, generator=draws(2)), y)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 4))


@pytest.fixture(scope="module")
def world() -> tuple[nn.Module, TensorDataset, Subset[Any], Subset[Any]]:
    """Return a trained model and its data, with class 0 to forget."""
    torch.set_num_threads(1)
    data, model = clouds(), network()
    descent = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        descent.zero_grad()
        nn.functional.cross_entropy(model(data.tensors[0]), data.tensors[1]).backward()
        descent.step()
    of_class = [i for i in range(len(data)) if i % 4 == 0]
    others = [i for i in range(len(data)) if i % 4]
    return model, data, Subset(data, of_class), Subset(data, others)


def whole(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return task().collate([data[i] for i in range(len(data))])


# AMUN.


def test_adversarial_examples_are_misclassified_and_near(world: Any) -> None:
    model, _, forget, _ = world
    t = task()
    made, cut = counterparts(model, forget, loop(t), epsilon=0.04, steps=50, doublings=10, batch=16)
    assert sum(int(part.usable.sum()) for part in made) == len(forget)
    assert not cut
    near, far = [], []
    for part in made:
        x, y = part.source
        twin, own = part.batch
        ok = part.usable
        predicted = model(twin).argmax(1)
        assert bool((predicted != y)[ok].all()), "misclassified"
        assert bool((predicted == own)[ok].all()), "labelled with the prediction"
        near += (twin - x).norm(dim=1)[ok].tolist()
        wide, found = attack(t, model, part.source, 8.0, 50, Budget(1e9))
        assert bool(found[ok].all())
        far += (wide - x).norm(dim=1)[ok].tolist()
    # Large balls are searched with large steps, which overshoot the boundary.
    assert sum(near) < 0.9 * sum(far)
    assert sum(n < f for n, f in zip(near, far, strict=True)) > 0.7 * len(near)


def test_an_attack_stays_in_the_ball_and_in_the_input_range(world: Any) -> None:
    model, data, _, _ = world
    t = task()
    t.input_range = lambda batch: (-2.0, 2.0)  # type: ignore[method-assign]
    x, y = data.tensors[0].clamp(-2, 2), data.tensors[1]
    point, found = attack(t, model, (x, y), 0.5, 20, Budget(1e9))
    assert float((point - x).norm(dim=1).max()) <= 0.5 + 1e-5
    assert float(point.abs().max()) <= 2
    assert torch.equal(found, model(point).argmax(1) != y)
    assert 0 < int(found.sum()) < len(found)


def test_amun_lowers_the_confidence_on_memorised_samples() -> None:
    t, data, model = task(), clouds(spread=1.0), network()
    x, y = data.tensors
    y[:20] = (y[:20] + 1) % 4
    descent = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(300):
        descent.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        descent.step()
    forget, retain = Subset(data, range(20)), Subset(data, range(20, 240))
    after = amun(model, forget, retain, t, **arguments(), lr=3e-3, epochs=4)
    sure = [float(m(x[:20]).softmax(1).gather(1, y[:20, None]).mean().detach()) for m in (model, after)]
    assert sure[1] < sure[0] - 0.1
    assert t.evaluate(after, retain)["accuracy"] > 0.9
    with pytest.raises(InputError, match="No adversarial example"):
        amun(model, forget, retain, t, **arguments(), epsilon=1e-6, doublings=0)
    with pytest.raises(BudgetSpent):
        amun(model, forget, retain, t, **arguments(limit=30), epsilon=1e-6, doublings=3)


# Boundary shrink.


def test_neighbours_keep_the_picture_and_change_the_label(world: Any) -> None:
    model, _, forget, _ = world
    made = neighbours(model, forget, loop(task()), bound=0.1, doublings=6, batch=16)
    assert sum(int(part.usable.sum()) for part in made) >= 0.9 * len(forget)
    for part in made:
        assert torch.equal(part.batch[0], part.source[0])
        assert bool((part.batch[1] != part.source[1])[part.usable].all())


def test_boundary_shrink_removes_the_class(world: Any) -> None:
    model, _, forget, retain = world
    t = task()
    after = boundary_shrink(model, forget, retain, t, **arguments(), lr=3e-3, doublings=6)
    assert t.evaluate(after, forget)["accuracy"] < 0.3
    assert t.evaluate(after, retain)["accuracy"] > 0.8
    with pytest.raises(InputError, match="crosses a boundary"):
        boundary_shrink(model, forget, retain, t, **arguments(), bound=1e-6, doublings=0)
    with pytest.raises(BudgetSpent):
        boundary_shrink(model, forget, retain, t, **arguments(limit=2 * len(forget)), bound=1e-6)


# DELETE.


def test_targets_of_delete_give_the_forgotten_class_no_probability(world: Any) -> None:
    model, _, forget, _ = world
    t = task()
    x, y = whole(forget)
    before = model(x).softmax(1)
    target = t.suppress(t.outputs(model, (x, y)), (x, y))["logits"].softmax(1)
    assert bool((target.gather(1, y[:, None]) == 0).all())
    rest = before.scatter(1, y[:, None], 0)
    torch.testing.assert_close(target, rest / rest.sum(1, keepdim=True), rtol=1e-3, atol=1e-6)


def test_delete_moves_the_outputs_to_the_targets(world: Any) -> None:
    model, _, forget, retain = world
    t = task()
    after = delete(model, forget, retain, t, **arguments(), lr=5e-3, epochs=20)
    batch = whole(forget)
    target = t.suppress(t.outputs(model, batch), batch)
    gap = [float(t.divergence(t.outputs(m, batch), target).mean().detach()) for m in (model, after)]
    assert gap[1] < 0.2 * gap[0]
    assert t.evaluate(after, forget)["accuracy"] < 0.2
    assert t.evaluate(after, retain)["accuracy"] > 0.9


def test_delete_ends_with_the_budget(world: Any) -> None:
    model, _, forget, retain = world
    given = arguments(limit=50)
    delete(model, forget, retain, task(), **given)
    assert 0 < given["budget"].spent <= 50
    assert given["budget"].steps == 2


# UNSIR.


def test_noise_raises_the_loss(world: Any) -> None:
    model, _, forget, _ = world
    t = task()
    batch = whole(Subset(forget, range(16)))

    def noise(steps: int) -> torch.Tensor:
        made = error_maximising_noise(t, model, batch, steps=steps, penalty=0.01, generator=draws())
        assert torch.equal(made[1], batch[1])
        return t.loss(model, made).mean().detach()

    assert float(noise(40)) > float(noise(0)) + 1
    # A large penalty dominates the error, and the noise shrinks.
    small = error_maximising_noise(t, model, batch, steps=40, penalty=10.0, generator=draws())[0]
    large = error_maximising_noise(t, model, batch, steps=40, penalty=0.0, generator=draws())[0]
    assert float(small.norm()) < 0.2 * float(large.norm())


def test_noise_does_not_depend_on_the_forgotten_pictures(world: Any) -> None:
    model, _, forget, _ = world
    x, y = whole(Subset(forget, range(8)))
    made = [
        error_maximising_noise(task(), model, (inputs, y), steps=5, penalty=0.1, generator=draws())[0]
        for inputs in (x, torch.zeros_like(x))
    ]
    assert torch.equal(*made)


def test_unsir_removes_the_class(world: Any) -> None:
    model, _, forget, retain = world
    t = task()
    after = unsir(model, forget, retain, t, **arguments(), impair_lr=0.05, repair_lr=0.01)
    assert t.evaluate(after, retain)["accuracy"] > 0.8
    assert t.evaluate(after, forget)["accuracy"] < t.evaluate(model, forget)["accuracy"] - 0.2
    with pytest.raises(BudgetSpent):
        unsir(model, forget, retain, t, **arguments(limit=300))


# Rewinding.

CERTIFY = {"delta": 1e-5, "smoothness": 1.0, "gradient_bound": 1.0}


def test_rewinding_equals_training_on_by_hand(world: Any) -> None:
    model, _, forget, retain = world
    t, start = task(), network()
    after = rewind(model, forget, retain, t, **arguments(), checkpoint=start, epochs=2, batch=16)
    hand, generator = t.clone(start), draws()
    descent = torch.optim.AdamW(hand.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    for _ in range(2):
        order = torch.randperm(len(retain), generator=generator).tolist()
        for i in range(0, len(retain), 16):
            descent.zero_grad()
            t.loss(hand, t.collate([retain[j] for j in order[i : i + 16]])).mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(hand.parameters(), 10)
            descent.step()
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), hand.parameters(), strict=True))


def test_full_batch_descent_by_hand(world: Any) -> None:
    _, _, _, retain = world
    t = task()
    found, hand = t.clone(network()), t.clone(network())
    descend(found, retain, loop(t), lr=0.3, steps=4, batch=32)
    x, y = whole(retain)
    for _ in range(4):
        gradients = torch.autograd.grad(t.loss(hand, (x, y)).mean(), list(hand.parameters()))
        with torch.no_grad():
            for weight, g in zip(hand.parameters(), gradients, strict=True):
                weight -= 0.3 * g
    for a, b in zip(found.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    with pytest.raises(BudgetSpent):
        descend(found, retain, loop(t, limit=3.5 * len(retain)), lr=0.3, steps=4, batch=32)


def sigma(**changed: Any) -> float:
    given: dict[str, Any] = {
        "smoothness": 2.0,
        "gradient_bound": 3.0,
        "samples": 100,
        "forgotten": 20,
        "steps": 3,
        "redone": 1,
        "lr": 0.1,
        "epsilon": 0.5,
        "delta": 1e-5,
    }
    return noise_scale(**{**given, **changed})


def test_the_noise_by_hand() -> None:
    # 2·20·3/(100·2) = 0.6; ηLn/(n−m) = 0.25 and 1.25² − 1 = 0.5625; 1 + ηL = 1.2: Δ = 0.405.
    assert sigma() == pytest.approx(0.405 * math.sqrt(2 * math.log(125_000)) / 0.5)
    assert sigma(redone=3) == 0, "all steps are repeated, so F has no influence"
    assert sigma(redone=1) > sigma(redone=2)
    assert sigma(steps=10_000) == math.inf
    for wrong in ({"epsilon": 1.5}, {"delta": 0}, {"forgotten": 100}, {"redone": 4}, {"smoothness": 0}):
        with pytest.raises(InputError):
            sigma(**wrong)


def test_the_bound_holds_for_known_constants() -> None:
    """Logistic losses on bounded inputs have G = max‖x‖, L = max‖x‖²/4; all distances stay below Δ."""
    worst = 0.0
    for seed in range(30):
        generator = draws(seed)
        x = nn.functional.normalize(torch.randn(40, 3, generator=generator, dtype=torch.float64))
        y = (torch.rand(40, generator=generator) < 0.5).double()
        y[:10] = (x[:10, 0] > 0).double()

        def step(theta: torch.Tensor, first: int, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            error = torch.sigmoid(x[first:] @ theta) - y[first:]
            return theta - 0.8 * (error[:, None] * x[first:]).mean(0)

        theta = retrained = torch.zeros(3, dtype=torch.float64)
        for time in range(12):
            theta, retrained = step(theta, 0 if time < 8 else 10), step(retrained, 10)
        worst = max(worst, float((theta - retrained).norm()))
    scale = noise_scale(
        smoothness=0.25,
        gradient_bound=1.0,
        samples=40,
        forgotten=10,
        steps=12,
        redone=4,
        lr=0.8,
        epsilon=0.5,
        delta=1e-5,
    )
    bound = scale * 0.5 / math.sqrt(2 * math.log(1.25e5))
    assert 0 < worst <= bound


def test_only_the_state_with_certified_noise_is_returned(world: Any) -> None:
    model, _, forget, retain = world
    t, start = task(), network()
    given = arguments()
    settings = {"checkpoint": start.state_dict(), "full_batch": True, "epochs": 3, "lr": 0.1}
    noisy = rewind(model, forget, retain, t, **given, **settings, epsilon=0.5, total_steps=5, **CERTIFY)
    assert given["progress"].rounds == 1
    plain = rewind(model, forget, retain, t, **arguments(), **settings)
    noise = torch.cat(
        [(a - b).detach().flatten() for a, b in zip(noisy.parameters(), plain.parameters(), strict=True)]
    )
    expected = noise_scale(
        samples=len(forget) + len(retain),
        forgotten=len(forget),
        steps=5,
        redone=3,
        lr=0.1,
        epsilon=0.5,
        **CERTIFY,
    )
    assert float(noise.std()) == pytest.approx(expected, rel=0.15)


def test_a_certificate_is_refused_where_the_theorem_does_not_hold(world: Any) -> None:
    model, _, forget, retain = world
    given = {"checkpoint": network(), "epsilon": 0.5, "total_steps": 9, **CERTIFY}

    def refused(why: str, t: ModuleTask | None = None, m: nn.Module = model, **changed: Any) -> None:
        with pytest.raises(InputError, match=why):
            rewind(m, forget, retain, t or task(), **arguments(), **{**given, "full_batch": True, **changed})

    refused("full-batch gradient descent", full_batch=False)
    refused("Not given: smoothness", smoothness=None)
    other = task()
    other.name = "detect"
    refused("known smoothness", other)
    normed = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.Linear(24, 4))
    refused("running statistics", m=normed, checkpoint=normed)
    frozen = network()
    frozen[0].requires_grad_(False)
    refused("frozen", m=frozen)
    refused("does not fit", checkpoint=normed)


# Retraining.


def test_retraining_is_charged_and_forgets(world: Any) -> None:
    model, _, forget, retain = world
    t, given = task(), arguments(limit=40 * len(retain))
    after = retrain(model, forget, retain, t, **given, epochs=40, settings={"lr": 5e-3})
    assert given["budget"].spent == 40 * len(retain)
    assert t.evaluate(after, forget)["accuracy"] == 0
    assert t.evaluate(after, retain)["accuracy"] > 0.9
    with pytest.raises(BudgetSpent):
        retrain(model, forget, retain, t, **arguments(limit=39 * len(retain)), epochs=40)
