# SPDX-License-Identifier: Apache-2.0
"""Common behaviour of all registered methods, in every small world."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from methods.bounds import CHECKS, DROP, MOVED, PRESENT, bound, complaint, has_room, misses
from methods.judging import full, left, lost, recognised, residual
from methods.runs import MAKERS, Runs, digests, run
from methods.table import KNOWN, LIGHT, STATISTICS, STRENGTH, cases
from methods.worlds import World
from torch import nn
from torch.utils.data import Subset

from expunge.methods.base import all_methods

SHORT = ("digits", "detect", "classify")  # one run for all checks
LONG = ("digits", "detect:slow", "classify:slow")  # one more run for each check
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(("world", "method"), cases(SHORT))
def test_the_original_and_the_global_generator_do_not_change(runs: Runs, world: str, method: str) -> None:
    done = runs.brief(world, method)
    assert done.untouched
    assert done.random


@pytest.mark.parametrize(("world", "method"), cases(LONG))
def test_the_same_seed_gives_the_same_bytes(runs: Runs, world: str, method: str) -> None:
    first, again = runs.brief(world, method), run(runs.world(world), method)
    assert digests(first.model) == digests(again.model)
    assert first.budget == again.budget


@pytest.mark.parametrize(("world", "method"), cases(SHORT))
def test_weights_change_and_are_finite(runs: Runs, world: str, method: str) -> None:
    done, original = runs.brief(world, method), runs.world(world).original
    after = dict(done.model.named_parameters())
    assert any(not torch.equal(p, after[name]) for name, p in original.named_parameters())
    assert all(bool(torch.isfinite(v).all()) for v in done.model.state_dict().values())


@pytest.mark.parametrize(("world", "method"), cases(SHORT))
def test_batch_norm_statistics_change_only_where_documented(runs: Runs, world: str, method: str) -> None:
    before, after = runs.world(world).original.state_dict(), runs.brief(world, method).model.state_dict()
    names = [name for name in before if name.endswith(BUFFERS)]
    assert names
    same = all(torch.equal(before[name], after[name]) for name in names)
    assert same != (method in STATISTICS)


@pytest.mark.parametrize(("world", "method"), cases(SHORT))
def test_the_result_has_the_trainable_weights_of_the_original(runs: Runs, world: str, method: str) -> None:
    before, after = runs.world(world).original, runs.brief(world, method).model
    assert after is not before
    ready = runs.world(world).task.clone(before)
    assert {n: p.requires_grad for n, p in after.named_parameters()} == {
        n: p.requires_grad for n, p in ready.named_parameters()
    }
    assert not any(m.training for m in after.modules())


@pytest.mark.parametrize(("world", "method"), cases(SHORT))
def test_all_work_is_charged(runs: Runs, world: str, method: str) -> None:
    done = runs.brief(world, method)
    assert done.budget.spent >= 0.99 * done.passes


@pytest.mark.parametrize(("world", "method"), cases(LONG))
def test_a_spent_budget_ends_the_method_early(runs: Runs, world: str, method: str) -> None:
    whole = runs.brief(world, method).budget.spent
    done = run(runs.world(world), method, limit=whole / 2)
    assert done.budget.spent <= whole / 2 * (1 + 1e-6)
    assert done.passes <= whole / 2 * 1.01
    assert done.untouched
    assert done.model is None or all(bool(torch.isfinite(v).all()) for v in done.model.state_dict().values())


@pytest.mark.parametrize(("world", "method"), cases(LONG))
def test_frozen_layers_do_not_change(runs: Runs, world: str, method: str) -> None:
    place = runs.world(world)
    task, original, stays = place.freeze()
    assert stays
    # Weights frozen from the start are in every checkpoint.
    checkpoint = copy.deepcopy(place.checkpoint)
    same = {name: value for name, value in original.state_dict().items() if name in stays}
    checkpoint.load_state_dict(same, strict=False)
    done = run(replace(place, checkpoint=checkpoint), method, task=task, original=original)
    before, after = digests(original), digests(done.model)
    learns = {name: p.requires_grad for name, p in done.model.named_parameters()}
    assert done.untouched
    assert all(before[name] == after[name] and not learns[name] for name in stays)
    assert any(before[name] != after[name] for name in before if name not in stays)


@pytest.mark.parametrize(("world", "method"), cases(LONG))
def test_a_last_batch_of_one_sample_works(runs: Runs, world: str, method: str) -> None:
    place = runs.world(world)
    batch = min(len(place.forget), 17) - 1
    few = {"forget": Subset(place.forget, range(batch + 1)), "retain": Subset(place.retain, range(batch + 1))}
    done = run(place, method, batch=batch, **few)
    assert all(bool(torch.isfinite(v).all()) for v in done.model.state_dict().values())


JUDGED = [
    *(("retain", *case.values) for case in cases(("digits",), "sample")),
    *(("toward", *case.values) for case in cases(("digits",), "sample")),
    *(("beyond", *case.values) for case in cases(("digits",), "sample")),
    *(("retain", *case.values) for case in cases(("digits-class",), "class")),
    *(("absent", *case.values) for case in cases(("digits-class",), "class")),
]
FIGURES = {"retain": lost, "toward": left, "beyond": left, "absent": recognised}


EXPENSIVE = {"amun"}  # a minute each


@pytest.mark.parametrize(
    ("check", "world", "method"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[2] in EXPENSIVE else []) for case in JUDGED],
)
def test_results_are_within_the_bounds(runs: Runs, check: str, world: str, method: str) -> None:
    """The retain metric holds; the model moves toward the reference and not beyond it; a class is removed."""
    assert complaint(check, world, method, FIGURES[check](full(runs, world, method))) == ""


def test_known_failures_are_listed() -> None:
    assert {case for case in JUDGED if misses(*case)} <= set(KNOWN)


def test_most_methods_meet_the_declared_bounds() -> None:
    kept = [case for case in JUDGED if has_room(*case)]
    assert len(kept) > len(JUDGED) / 2
    assert {("toward", "digits", "retrain"), ("absent", "digits-class", "retrain")} <= set(kept), "control"


def test_a_mean_outside_the_measurement_is_reported() -> None:
    assert complaint("retain", "digits", "retrain", DROP + 0.01)
    assert not complaint("retain", "digits", "retrain", DROP - 0.01)
    assert "missed" in complaint("toward", "digits", "cf_k", MOVED - 0.01)
    assert not complaint("toward", "digits", "cf_k", 1.0)
    for case in JUDGED:
        rule, limit = CHECKS[case[0]], bound(*case)
        assert rule.side * (limit - rule.declared) >= 0, "never stricter than declared"
        assert complaint(*case, limit + rule.side * 0.01)


def test_an_unmeasured_method_has_the_declared_bounds() -> None:
    assert bound("retain", "digits", "a new one") == DROP
    assert has_room("retain", "digits", "a new one")
    assert not misses("retain", "digits", "a new one")


def test_the_bounds_separate_an_unchanged_model_from_a_retrain(runs: Runs) -> None:
    place, removed = runs.world("digits"), runs.world("digits-class")
    assert residual(place, place.original) == 1 > MOVED
    assert removed.figures(removed.original)["forget"] > 0.5 > PRESENT
    assert removed.figures(removed.references[0])["forget"] <= PRESENT


def test_the_bounds_reject_a_ruined_model(runs: Runs) -> None:
    place = runs.world("digits")
    ruined = place.task.fresh(place.original, torch.Generator().manual_seed(0))
    assert place.figures(place.original)["retain"] - place.figures(ruined)["retain"] > DROP
    assert (
        residual(place, ruined) > MOVED
    )  # equally worse on both sets, so nothing in particular is forgotten


@pytest.mark.parametrize("name", MAKERS)
def test_the_worlds_have_the_described_properties(runs: Runs, name: str) -> None:
    place: World = runs.world(name)
    assert place.original.training
    assert any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in place.original.modules())
    if name == "digits":
        assert len(place.forget) % 16 == 1
        assert len(place.retain) % 16 == 1
        assert place.figures(place.original)["forget"] > 0.9


def test_the_table_contains_only_registered_methods() -> None:
    names = all_methods()
    assert set(names) >= STATISTICS | set(LIGHT)
    assert {world for world, _ in STRENGTH} | {world for _, world, _ in KNOWN} <= set(MAKERS)
    assert {name for _, name in STRENGTH} | {name for *_, name in KNOWN} <= set(names)
    assert all(reason.endswith(".") for reason in KNOWN.values())
