# SPDX-License-Identifier: Apache-2.0
"""TracIn and TRAK against what retraining without each sample, and each contributor, shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.leave_out import Problem, Recipe, module_of, train
from bias.find_worlds import LINEAR, MANY, SAMPLES, SEEDS, World, linear, pairs, rho, world
from torch import nn

from expunge.bias.attribution.gradients import LAST_LAYER, PROJECTED, Gradients, gradients_of
from expunge.bias.attribution.sketch import Sketch
from expunge.bias.attribution.tracin import Visit, tracin
from expunge.bias.attribution.trak import trak
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask

ESTIMATES = {"trak": trak, "tracin": tracin}


def judged(
    name: str, worlds: Iterable[World], by: Callable[[World, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float]:
    """Return the mean rank correlation with the truth, and the highest such mean of 20 shuffled estimates."""
    rng = np.random.default_rng(0)
    found, control = [], []
    for w in worlds:
        harm = ESTIMATES[name](w.visits, SAMPLES)
        found.append(rho(*by(w, harm)))
        control.append([rho(*by(w, rng.permutation(harm))) for _ in range(20)])
    return float(np.mean(found)), float(np.mean(control, axis=0).max())


@pytest.mark.parametrize(("name", "least"), [("trak", 0.75), ("tracin", 0.25)])
def test_leave_one_out(name: str, least: float) -> None:
    found, control = judged(name, map(linear, SEEDS), lambda w, harm: (harm, w.samples))
    assert found > least
    assert control < least  # a random ranking fails


@pytest.mark.parametrize(("name", "least"), [("trak", 0.7), ("tracin", 0.45)])
def test_leave_contributor_out(name: str, least: float) -> None:
    found, control = judged(name, map(linear, MANY), lambda w, harm: (w.by_contributor(harm), w.contributors))
    assert found > least
    assert control < least


def test_the_worst_contributors_are_those_who_labelled_wrongly() -> None:
    named = by_luck = 0
    for seed in MANY:
        w = world(seed, LINEAR, (0,), samples=400, pool=1)
        harm = trak(w.visits, 400)
        named += len({0, 1} & set(np.argsort(-w.by_contributor(harm))[:2].tolist()))
        random = w.by_contributor(np.random.default_rng(seed).permutation(harm))
        by_luck += len({0, 1} & set(np.argsort(-random)[:2].tolist()))
    assert named >= 12  # of 16; retraining without each names 11
    assert by_luck <= 6


@pytest.mark.slow
def test_a_network_averaged_over_initial_weights() -> None:
    recipe = Recipe(hidden=16, steps=200, rate=0.1, decay=1e-3)
    worlds = [world(seed, recipe, tuple(range(8))) for seed in SEEDS]
    found, control = judged("trak", worlds, lambda w, harm: (harm, w.samples))
    assert found > 0.3
    assert control < 0.3


def test_the_exact_influence_in_the_linear_case() -> None:
    """A logistic regression with a penalty: TRAK with R is the influence function, −g_Tᵀ H⁻¹ g_i."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = np.where(rng.random(60) < 1 / (1 + np.exp(-x @ rng.normal(size=4))), 1.0, -1.0)
    penalty, w = 0.7, np.zeros(4)
    for _ in range(50):  # Newton's method to the optimum
        p = 1 / (1 + np.exp(-y * (x @ w)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty * np.eye(4)
        w -= np.linalg.solve(hessian, -(x * (y * (1 - p))[:, None]).sum(0) + penalty * w)
    p = 1 / (1 + np.exp(-y * (x @ w)))
    slopes = -(x * (y * (1 - p))[:, None])
    target = slopes[:7]
    exact = -slopes @ np.linalg.solve(hessian, target.mean(0))
    gradients = Gradients(slopes.astype(np.float32), -np.log(p), True, LAST_LAYER)
    part = Gradients(target.astype(np.float32), -np.log(p[:7]), True, LAST_LAYER)
    visit = Visit(np.arange(60), gradients, part)
    found = trak([visit], 60, penalty=penalty, weighted=True)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6)
    plain = trak([visit], 60, penalty=penalty)
    assert np.abs(plain - exact).max() > 1e-3  # without R it is another matrix
    # and the influence function is what leaving a sample out does, to first order
    left_out = np.array([_loss_without(x, y, i, penalty, slice(0, 7)) for i in range(60)])
    whole = float(np.log1p(np.exp(-y[:7] * (x[:7] @ w))).mean())
    assert rho(found, whole - left_out) > 0.95


def _loss_without(x: np.ndarray, y: np.ndarray, gone: int, penalty: float, target: slice) -> float:
    keep = np.arange(len(x)) != gone
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-y[keep] * (x[keep] @ w)))
        hessian = (x[keep] * (p * (1 - p))[:, None]).T @ x[keep] + penalty * np.eye(len(w))
        w -= np.linalg.solve(hessian, -(x[keep] * (y[keep] * (1 - p))[:, None]).sum(0) + penalty * w)
    return float(np.log1p(np.exp(-y[target] * (x[target] @ w))).mean())


def test_both_gram_matrices_give_the_same() -> None:
    rng = np.random.default_rng(1)
    rows, loss = rng.normal(size=(30, 12)).astype(np.float32), rng.random(30) + 0.1
    narrow = Visit(
        np.arange(30), Gradients(rows, loss, True, LAST_LAYER), Gradients(rows[:3], loss[:3], True, "")
    )
    wide_rows = np.concatenate([rows, np.zeros((30, 40), dtype=np.float32)], 1)
    wide = Visit(
        np.arange(30),
        Gradients(wide_rows, loss, True, LAST_LAYER),
        Gradients(wide_rows[:3], loss[:3], True, ""),
    )
    np.testing.assert_allclose(
        trak([narrow], 30, penalty=0.5), trak([wide], 30, penalty=0.5), rtol=1e-6, atol=1e-9
    )


# Gradients.


@pytest.mark.parametrize("bias", [True, False])
def test_the_closed_form_is_what_autograd_gives(bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4, bias=bias))
    task, data = ModuleTask(nn.CrossEntropyLoss(reduction="none")), pairs(9, generator)
    found = gradients_of(task, task.clone(model), data, Sketch(1000))
    assert (found.kind, found.entropy) == (LAST_LAYER, True)
    head = model[2]
    for i, (x, y) in enumerate(data):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        parts = torch.autograd.grad(loss, list(head.parameters()))
        whole = torch.cat([parts[0], parts[1][:, None]], 1) if bias else parts[0]
        torch.testing.assert_close(torch.tensor(found.rows[i]), whole.flatten(), rtol=1e-4, atol=1e-6)
        assert found.loss[i] == pytest.approx(float(loss.detach()), rel=1e-5)


def test_without_a_linear_head_all_gradients_are_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    task, data = ModuleTask(nn.CrossEntropyLoss(reduction="none")), pairs(6, generator)
    found = gradients_of(task, task.clone(model), data, Sketch(1000))
    assert found.kind == PROJECTED
    for i, (x, y) in enumerate(data):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        parts = torch.autograd.grad(loss, list(model.parameters()))
        whole = torch.cat([p.flatten() for p in parts])
        torch.testing.assert_close(torch.tensor(found.rows[i]), whole, rtol=1e-4, atol=1e-6)


def test_a_frozen_head_is_not_taken() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 4))
    model[1].requires_grad_(False)
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    found = gradients_of(task, task.clone(model), pairs(3, torch.Generator().manual_seed(0)), Sketch(1000))
    assert found.kind == PROJECTED
    assert found.rows.shape == (3, 5 * 7 + 7)


def test_another_loss_is_no_entropy() -> None:
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none", label_smoothing=0.3))
    model = nn.Linear(5, 4)
    found = gradients_of(task, task.clone(model), pairs(4, torch.Generator().manual_seed(0)), Sketch(1000))
    assert not found.entropy


def test_the_sketch_keeps_inner_products() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn((2, 20_000), generator=generator)
    b = b + 0.3 * a
    exact = float(a @ b)
    found = [float(Sketch(512, seed)(a[None])[0] @ Sketch(512, seed)(b[None])[0]) for seed in range(60)]
    spread = float(a.norm() * b.norm()) * (2 / 512) ** 0.5
    assert abs(np.mean(found) - exact) < 3 * spread / 60**0.5
    assert np.std(found) < spread
    assert Sketch(512)(a[None, :100]).shape == (1, 100)


def test_samples_that_no_checkpoint_saw_are_not_ranked() -> None:
    w = linear(0)
    part = w.visits[-1]
    half = np.arange(0, SAMPLES, 2)
    train = replace(part.train, rows=part.train.rows[half], loss=part.train.loss[half])
    few = replace(part, rows=half, train=train)
    for harm in (tracin([few], SAMPLES), trak([few], SAMPLES)):
        assert np.isnan(harm[1::2]).all()
        assert np.isfinite(harm[::2]).all()


def test_rates_weigh_checkpoints() -> None:
    w = linear(0)
    first, last = w.visits[0], w.visits[-1]
    none = replace(first, rate=np.zeros(SAMPLES))
    np.testing.assert_allclose(tracin([none, last], SAMPLES), tracin([last], SAMPLES))
    twice = replace(last, rate=2.0)
    np.testing.assert_allclose(tracin([twice], SAMPLES), 2 * tracin([last], SAMPLES))


def test_nothing_and_nan_are_refused() -> None:
    task = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
    model = nn.Linear(5, 4)
    data = pairs(3, torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="no sample"):
        gradients_of(task, model, torch.utils.data.Subset(data, []), Sketch(10))
    data.tensors[0][1, 0] = float("nan")
    with pytest.raises(InputError, match="not a finite number"):
        gradients_of(task, model, data, Sketch(10))
    with pytest.raises(InputError, match="positive"):
        trak([], 3, damping=0.0)


def test_forgetting_what_was_found_helps_and_forgetting_at_random_does_not() -> None:
    """What finds (the first half of the held-out data) never judges (the second)."""
    network = Recipe(hidden=16, steps=200, rate=0.1, decay=1e-3)
    gains = []
    for seed in range(6):
        w = world(seed, network, (0,), samples=300, pool=1, bad=(0, 1, 2), held=200, every=True)
        harm = trak(w.visits, 300)
        top = int(w.problem.wrong.sum())
        keep = np.ones((3, 300), dtype=bool)
        keep[1, np.argsort(-harm)[:top]] = False
        keep[2, np.random.default_rng(seed).permutation(300)[:top]] = False
        weights, _ = train(w.problem, keep, network, 0)
        whole, found, random = accuracies(w.problem, weights, slice(200, None))
        gains.append((found - whole, random - whole))
    by_harm, by_luck = np.mean(gains, axis=0)
    assert by_harm > 0.015
    assert by_luck < 0.005


def accuracies(drawn: Problem, weights: list[torch.Tensor], part: slice) -> list[float]:
    """Return the accuracy of each model on a part of the held-out data."""
    found = []
    for number in range(len(weights[0])):
        said = module_of(weights, number)(drawn.held_x[part]).argmax(1)
        found.append(float((said == drawn.held_y[part]).double().mean()))
    return found
