# SPDX-License-Identifier: Apache-2.0
"""The minimum work of every method: a step is made with it and none with less. Invalid values are refused."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from methods.runs import CountingProgress
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge.errors import InputError
from expunge.methods.base import Budget, BudgetSpent, all_methods, get_method
from expunge.methods.least import SetSizes
from expunge.methods.values import COUNTS, RATES
from expunge.tasks.module import ModuleTask
from expunge.unlearning.budgets import Allowance, rounded_up

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(80, 4, generator=GENERATOR)
Y = (X[:, 0] > 0).long()
DATA = TensorDataset(X, Y)
TASK = ModuleTask(nn.CrossEntropyLoss(reduction="none"))
METHODS = sorted(all_methods())
BOUND = [name for name in METHODS if name != "retrain"]  # the budget binds every method but a retrain


def network() -> nn.Module:
    """Return a classifier that fits its data, so that a search for misclassified points must work."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, 0.1, 0.2, 0.3], [1.0, 0.3, 0.1, -0.2]]))
        model.bias.zero_()
    return nn.Sequential(model)


def values_of(name: str, batch: int) -> dict[str, Any]:
    needed: dict[str, Any] = {"checkpoint": network(), "unseen": Subset(DATA, [70, 71, 72]), "epochs": 1}
    method = get_method(name)
    found = {key: needed[key] for key in method.needs}
    own = method.hyperparameters
    found |= {key: batch for key in ("batch", "averaged") if key in own}
    found |= {"noise_steps": 2} if "noise_steps" in own else {}
    found |= {"steps": 3, "doublings": 9} if name == "amun" else {}
    return found | ({"k": 1} if "k" in own else {})


def steps_with(name: str, forget: int, retain: int, batch: int, passes: float) -> int:
    """Run a method within a budget and return the number of its steps."""
    budget = Budget(passes)
    with suppress(BudgetSpent):
        get_method(name).function(
            network(),
            Subset(DATA, list(range(forget))),
            Subset(DATA, list(range(forget, forget + retain))),
            TASK,
            generator=torch.Generator().manual_seed(0),
            budget=budget,
            progress=CountingProgress(),
            **values_of(name, batch),
        )
    return budget.steps


@pytest.mark.parametrize("name", BOUND)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 9))
def test_the_minimum_work_allows_a_step_and_less_does_not(
    name: str, forget: int, retain: int, batch: int
) -> None:
    work = get_method(name).least_work(SetSizes(forget, retain), values_of(name, batch))
    assert 0 < work.needed <= work.enough
    assert steps_with(name, forget, retain, batch, work.enough) >= 1
    assert steps_with(name, forget, retain, batch, work.needed * 0.98 - 0.01) == 0


@settings(max_examples=200)
@given(st.floats(1e-6, 1e6))
def test_the_reported_budget_suffices(value: float) -> None:
    named = float(f"{rounded_up(value):.4g}")
    assert value * (1 - 1e-9) <= named <= value * 1.002


@pytest.mark.parametrize("name", BOUND)
def test_the_error_for_a_small_budget_reports_a_sufficient_one(name: str) -> None:
    sizes, values = SetSizes(20, 40), values_of(name, 16)
    with pytest.raises(InputError, match="does not suffice") as error:
        Allowance(1e-4, 10, 40).require(get_method(name), values, sizes)
    least = float(error.value.next_step.split("at least ")[1].split(",")[0])
    allowance = Allowance(least, 10, 40)
    allowance.require(get_method(name), values, sizes)
    assert steps_with(name, 20, 40, 16, allowance.passes) >= 1


def test_a_retrain_of_unknown_length() -> None:
    with pytest.raises(InputError, match="retrain_epochs"):
        Allowance(0.25, None, 2).require(get_method("salun"), {}, SetSizes(100, 2))


BAD = [0, -1, float("nan"), math.inf, True, "many", None]


@pytest.mark.parametrize("name", METHODS)
def test_values_without_effect_are_refused(name: str) -> None:
    method = get_method(name)
    needed = values_of(name, 4)
    method.check(needed)
    tried = 0
    for key, default in method.hyperparameters.items():
        if key not in COUNTS | RATES:
            continue
        for bad in BAD:
            if bad is None and default is None:
                continue
            tried += 1
            with pytest.raises(InputError):
                method.check({**needed, key: bad})
        if key in COUNTS:
            with pytest.raises(InputError, match="whole number"):
                method.check({**needed, key: 1.5})
        if isinstance(default, (int, float)):
            method.check({**needed, key: default})
    assert tried


def test_settings_of_a_retrain() -> None:
    for bad in ({"lr": 0.0}, {"lr": -1}, {"batch": 0}, {"lr": float("nan")}, {"epochs": 0}):
        with pytest.raises(InputError):
            get_method("retrain").check({"epochs": 1, "settings": bad})
    get_method("retrain").check({"epochs": 1, "settings": {"lr": 1e-3, "batch": 8, "optimizer": "AdamW"}})
