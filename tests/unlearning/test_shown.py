# SPDX-License-Identifier: Apache-2.0
"""Probes on real, small models: a true retrain is like its references, the original is not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from expunge import audit, train_references
from expunge.audits.probes import results
from expunge.audits.probes.exported import ONNX, exported
from expunge.audits.probes.linear import LINEAR, cross_fit, features_of, fold
from expunge.audits.probes.quantised import INT8, fake_quantise, quantised
from expunge.audits.probes.relearn import MOST_STEPS, Relearning, by_people, halves, relearn_figure, steps_to
from expunge.audits.probes.results import Probes
from expunge.audits.quick import losses_of
from expunge.audits.scores import auc
from expunge.audits.unlearning_data import UnlearningData
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask

LOSS = nn.CrossEntropyLoss(reduction="none")


@dataclass
class Trained:
    """Random labels, which can only be known by heart, in a network whose features show it."""

    parts: dict[str, TensorDataset]
    original: nn.Module
    retrain: nn.Module
    references: list[nn.Module]
    task: ModuleTask


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
        nn.Linear(128, 16), nn.Tanh(), nn.Linear(16, 4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[Trained]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1000, 20, generator=generator), torch.randint(0, 4, (1000,), generator=generator)
    cuts = {"forget": (0, 100), "retain": (100, 500), "both": (0, 500), "unseen": (500, 1000)}
    parts = {name: TensorDataset(x[a:b], y[a:b]) for name, (a, b) in cuts.items()}
    how = {"loss": LOSS, "epochs": 60, "lr": 5e-3}
    (original,) = train_references(network(), retain=parts["both"], count=1, **how)  # type: ignore[arg-type]
    made = train_references(network(), retain=parts["retain"], count=4, seed=5, **how)  # type: ignore[arg-type]
    yield Trained(parts, original, made[0], made[1:], ModuleTask(LOSS))
    torch.set_num_threads(threads)


def numbers(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(count, dtype=np.int64)


def relearning(world: Trained) -> Relearning:
    forget, unseen = world.parts["forget"], world.parts["unseen"]
    return Relearning(world.task, world.original, forget, unseen, numbers(100), numbers(500))


def test_a_retrain_relearns_as_references_do_and_the_original_at_once(world: Trained) -> None:
    meter = relearning(world)
    before = copy.deepcopy(world.retrain.state_dict())
    original, retrain, *others = (meter.steps(m) for m in (world.original, world.retrain, *world.references))
    assert original[0] == 0
    assert all(torch.equal(v, before[k]) for k, v in world.retrain.state_dict().items())
    null = np.array([o[0] for o in others])
    assert abs(retrain[0] - null.mean()) < 0.2 * null.mean()
    assert abs(retrain[0] - retrain[1:].mean()) < 0.2 * retrain[0]  # as long as for unseen data
    assert retrain[0] > 4
    figure = relearn_figure(original, retrain, [], 0.9, full=False, n=meter.n)
    assert figure is not None
    assert not figure.judged
    assert figure.power
    assert abs(figure.rho) < 0.25
    kept = relearn_figure(original, original, [], 0.9, full=False, n=meter.n)
    assert kept is not None
    assert kept.rho == 1
    assert kept.p < 0.01


def test_relearning_of_what_was_half_kept_is_faster(world: Trained) -> None:
    """A blend of weights is no model of either side, so the control is trained: on half of the forget set."""
    half = relearning(world)._sets[0]
    both = torch.utils.data.ConcatDataset([half, world.parts["retain"]])  # type: ignore[list-item]
    (kept,) = train_references(network(), retain=both, loss=LOSS, count=1, epochs=60, lr=5e-3)
    meter = relearning(world)
    assert meter.steps(kept)[0] < 0.5 * meter.steps(world.retrain)[0]


def test_steps_are_interpolated_and_bounded(world: Trained) -> None:
    data, task = world.parts["unseen"], world.task
    some = TensorDataset(*(t[:30] for t in data.tensors))
    start = float(losses_of(task, world.retrain, some).mean())
    assert steps_to(task, world.retrain, some, start) == 0
    near, far = (steps_to(task, world.retrain, some, share * start) for share in (0.99, 0.5))
    assert 0 < near < 1 < far < MOST_STEPS
    assert steps_to(task, world.retrain, some, -1.0) == MOST_STEPS  # never


def test_with_references_they_are_the_null() -> None:
    references = [np.array([10.0 + i, 99, 99]) for i in range(20)]
    figure = relearn_figure(
        np.array([0.0, 50, 50]), np.array([12.0, 50, 50]), references, 0.9, full=True, n=5
    )
    assert figure is not None
    assert figure.null == (10, 29)
    assert figure.units == "references"
    assert figure.rho_interval == pytest.approx((1 - 12 / 10, 1 - 12 / 29))
    assert relearn_figure(np.zeros(2), np.zeros(2), [], 0.9, full=False, n=5) is None  # one set: no null


def test_halves_keep_people_whole() -> None:
    groups = np.repeat(numbers(5), 3)
    one, two = halves(groups, np.random.default_rng(0))
    assert sorted([*one, *two]) == list(range(15))
    assert not set(groups[one]) & set(groups[two])
    assert [len(h) for h in halves(np.zeros(1, np.int64), np.random.default_rng(0))] == [1, 0]
    assert [len(h) for h in halves(np.zeros(7, np.int64), np.random.default_rng(0))] == [4, 3]
    order = groups[by_people(groups, np.random.default_rng(1))]
    assert (np.diff(order) != 0).sum() == 4


def probed(world: Trained, model: nn.Module) -> float:
    parts = world.parts
    folds = fold(400, numbers(500), numbers(100), np.random.default_rng(0))
    learnt = TensorDataset(*(t[torch.from_numpy(folds.learnt)] for t in parts["retain"].tensors))
    features = [features_of(world.task, model, d) for d in (learnt, parts["unseen"], parts["forget"])]
    forget, unseen = cross_fit(*features, folds)
    assert (forget > 0).all()
    return auc(-forget, -unseen)


def test_features_give_members_away_in_the_original_alone(world: Trained) -> None:
    assert probed(world, world.original) > 0.65
    others = [probed(world, m) for m in (world.retrain, *world.references)]
    assert 0.42 < np.mean(others) < 0.58
    assert max(others) < 0.65
    assert min(others) > 0.35


def test_a_probe_of_noise_finds_nothing() -> None:
    """Control: the probe never learnt from the scored samples, so the AUC is ½ by chance."""
    generator = np.random.default_rng(0)
    values = []
    for _ in range(20):
        retain, unseen, forget = (generator.normal(size=(n, 30)) for n in (60, 60, 40))
        folds = fold(60, numbers(60), numbers(40), generator)
        f, u = cross_fit(retain[folds.learnt], unseen, forget, folds)
        values.append(auc(-f, -u))
    assert abs(np.mean(values) - 0.5) < 0.04


def test_a_probe_that_works_is_seen() -> None:
    generator = np.random.default_rng(0)
    retain, unseen, forget = (generator.normal(m, 1, (n, 5)) for m, n in ((1, 60), (0, 60), (1, 40)))
    folds = fold(60, numbers(60), numbers(40), generator)
    f, u = cross_fit(retain[folds.learnt], unseen, forget, folds)
    assert auc(-f, -u) > 0.85


def test_rounding_is_that_of_eight_bits(world: Trained) -> None:
    weights = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weights[2] = 0
    rounded = fake_quantise(weights)
    scale = weights.flatten(1).abs().amax(1) / 127
    for channel in range(5):
        steps = rounded[channel] / scale[channel].clamp(min=1e-9)
        assert torch.allclose(steps, steps.round(), atol=1e-3)
        assert (rounded[channel] - weights[channel]).abs().max() <= scale[channel] / 2 + 1e-7
    assert torch.equal(fake_quantise(rounded), fake_quantise(fake_quantise(rounded)))
    twin = quantised(world.task, world.original)
    assert torch.equal(twin[0].bias, world.original[0].bias)  # type: ignore[index]
    assert not torch.equal(twin[0].weight, world.original[0].weight)  # type: ignore[index]
    by_torch = torch.fake_quantize_per_channel_affine(
        weights[:2], scale[:2], torch.zeros(2, dtype=torch.int32), 0, -127, 127
    )
    assert torch.allclose(by_torch, rounded[:2], atol=1e-6)


def test_an_export_gives_the_same_losses_from_another_runtime(world: Trained) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    data = world.parts["unseen"]
    twin = exported(world.task, world.original)
    assert np.allclose(
        losses_of(world.task, twin, data), losses_of(world.task, world.original, data), atol=1e-4
    )
    with torch.no_grad():  # the export is what runs: the weights beside it do not matter any more
        twin[0].weight.zero_()  # type: ignore[index, union-attr, operator]
    assert np.allclose(
        losses_of(world.task, twin, data), losses_of(world.task, world.original, data), atol=1e-4
    )


def test_probes_are_shown_and_never_judged(world: Trained, tmp_path: Path) -> None:
    parts = {k: world.parts[k] for k in ("forget", "retain", "unseen")}
    plain = audit(world.retrain, original=world.original, loss=LOSS, **parts)
    full = audit(
        world.retrain, original=world.original, loss=LOSS, **parts,
        probes=["relearn", "linear", "int8"],
    )  # fmt: skip
    assert (full.verdict, full.reasons) == (plain.verdict, plain.reasons)
    added = set(full.figures) - set(plain.figures)
    assert added == {
        "relearn_steps (relearning)", f"membership_auc ({LINEAR})", f"loss_gap ({LINEAR})",
        f"membership_auc ({INT8})", f"loss_gap ({INT8})",
    }  # fmt: skip
    for name in added:
        figure = full.figures[name]
        assert not figure["judged"]
        assert all(k in figure for k in ("rho_interval", "baseline", "n_forget", "power"))
    assert full.figures[f"membership_auc ({LINEAR})"]["original"] > 0.6
    assert full.figures["relearn_steps (relearning)"]["references"] == []
    assert full.raw is not None
    full.save_page(tmp_path / "audit.html")
    assert "shown only" in (tmp_path / "audit.html").read_text()
    assert full.raw.views[INT8][0].references.shape == (0, 100)


def test_what_cannot_be_probed_is_refused(world: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = world.parts

    def probes(*names: str, unseen: int = 500, goal: str = "sample") -> Probes:
        few = TensorDataset(*(t[:unseen] for t in parts["unseen"].tensors))
        material = UnlearningData(parts["forget"], parts["retain"], few, few, goal)
        return Probes(names, world.task, world.original, material, 0)

    with pytest.raises(InputError, match="no probe 'deep'"):
        probes("deep")
    with pytest.raises(InputError, match="needs unseen data"):
        probes("linear", unseen=1)
    with pytest.raises(InputError, match="has no probes"):
        probes("int8", goal="class")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package onnx"):
        probes("onnx")
    assert probes(goal="class").views == ()
    assert results.VIEWS["onnx"] == ONNX
