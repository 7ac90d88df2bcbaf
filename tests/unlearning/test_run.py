# SPDX-License-Identifier: Apache-2.0
"""Budget, guard, rollback and refusals, on a model that has memorised its data."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Subset, TensorDataset
from unlearning_world import LOSS, World

from expunge import unlearn
from expunge.errors import InputError
from expunge.methods.base import BudgetSpent, Diverged

Method = Callable[..., nn.Module]
AddMethod = Callable[..., None]


def ruined(model: nn.Module, forget: Any, retain: Any, task: Any, *, progress: Any, **_: Any) -> nn.Module:
    """One good round, then rubbish."""
    student: nn.Module = task.clone(model)
    progress.round(student)
    with torch.no_grad():
        for p in student.parameters():
            p.normal_()
    progress.round(student)
    return student


def numberless(model: nn.Module, forget: Any, retain: Any, task: Any, **_: Any) -> nn.Module:
    student: nn.Module = task.clone(model)
    with torch.no_grad():
        next(student.parameters()).fill_(float("nan"))
    return student


def divergent(model: nn.Module, forget: Any, retain: Any, task: Any, **_: Any) -> nn.Module:
    raise Diverged("The method diverged.")


def greedy(model: nn.Module, forget: Any, retain: Any, task: Any, *, budget: Any, **_: Any) -> nn.Module:
    while True:
        budget.charge(1000)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_a_method_leaves_the_model_alone_and_repeats(world: World) -> None:
    before = copy.deepcopy(world.model.state_dict())
    runs = [unlearn(world.model, method="finetune", seed=s, **world.arguments()) for s in (1, 1, 2)]
    assert all(torch.equal(v, before[k]) for k, v in world.model.state_dict().items())
    assert same(runs[0].model, runs[1].model)
    assert not same(runs[0].model, runs[2].model)
    assert not same(runs[0].model, world.model)
    assert runs[0].steps == 5 * 32
    assert runs[0].passes == 5 * 500
    assert runs[0].cost == pytest.approx(5 / 30, abs=1e-5)
    assert runs[0].hyperparameters == {"lr": 1e-4, "epochs": 5, "batch": 16}


@pytest.mark.parametrize(
    "method", [ruined, numberless, divergent], ids=lambda v: getattr(v, "__name__", str(v))
)
def test_no_ruin_is_ever_returned(world: World, add_method: AddMethod, method: Method) -> None:
    add_method("bad", method)
    result = unlearn(world.model, method="bad", **world.arguments())
    assert same(result.model, world.model)  # the first round of `ruined` had changed nothing either
    assert result.rolled_back
    assert result.unchanged
    assert result.verdict == "fail"
    assert any("did not hold" in w or "held in no state" in w for w in result.warnings)


def test_the_budget_is_kept(world: World, add_method: AddMethod) -> None:
    tight = unlearn(world.model, method="finetune", budget=0.05, epochs=50, **world.arguments())
    assert tight.cost is not None
    assert tight.cost <= 0.05
    assert tight.passes > 0
    add_method("greedy", greedy)
    with pytest.raises(InputError, match="budget does not suffice") as error:
        unlearn(world.model, method="greedy", **world.arguments())
    assert isinstance(error.value.__cause__, BudgetSpent)


def test_a_retrain_is_a_training_without_the_forgotten(world: World) -> None:
    recipe = {"settings": {"lr": 3e-3}}
    result = unlearn(world.model, method="retrain", budget=0.01, fresh=None, **recipe, **world.arguments())
    assert result.cost == pytest.approx(1)  # the budget is for methods; a retrain is the safe way out
    retain = result.metrics["after"]["retain"]["accuracy"]
    forget, test = (result.metrics["after"][k]["accuracy"] for k in ("forget", "test"))
    # It has learnt by heart what it saw, and that alone. Over trainings of other seeds: -0.03 (deviation
    # 0.02), 0.14 (0.001), and for the original 0.10 (0.01).
    assert abs(forget - test) < 0.15
    assert retain - test > 0.05
    before = result.metrics["before"]
    assert before["forget"]["accuracy"] - before["test"]["accuracy"] > 0.03
    assert result.verdict in ("pass", "no-power")


def test_auto_says_what_it_tried_and_falls_back_to_a_retrain(world: World) -> None:
    result = unlearn(world.model, budget=0.02, **world.arguments())
    assert result.method == "retrain"
    assert result.tried[-1].method == "retrain"
    assert len({a.method for a in result.tried}) == len(result.tried) > 5
    assert all(a.reasons for a in result.tried)


def test_auto_never_calls_a_failure_a_success(world: World) -> None:
    """Without knowing what a retrain takes, the best that was reached is returned with its verdict."""
    result = unlearn(world.model, **world.arguments(retrain_epochs=None, allowed_drop=0.0, tune=1))
    if result.verdict != "pass":
        assert "retrain_epochs" in result.recommendation
        assert result.method != "retrain"
    assert result.verdict == max(
        (a.outcome for a in result.tried), key=["not tried", "fail", "no-power", "pass"].index
    )


def test_auto_takes_the_cheapest_that_passes(world: World, add_method: AddMethod) -> None:
    def oracle(model: nn.Module, forget: Any, retain: Any, task: Any, **_: Any) -> nn.Module:
        generator = torch.Generator().manual_seed(9)
        twin: nn.Module = task.retrain(
            model, retain, epochs=30, generator=generator, images=lambda n: None, lr=3e-3
        )
        return twin

    add_method("an_oracle", oracle, cost=0.0001)
    result = unlearn(world.model, allowed_drop=0.1, **world.arguments())
    first = result.tried[0]
    assert first.method == "an_oracle"
    if first.outcome == "pass":
        assert result.method == "an_oracle"
        assert len(result.tried) == 1
    else:
        assert first.outcome == "no-power", first  # a hundred samples may be too few; never a fail


def test_auto_recommends_a_retrain_where_that_is_cheaper(world: World) -> None:
    result = unlearn(world.model, budget=5.0, **world.arguments(retrain_epochs=1))
    attempts = {a.method: a for a in result.tried}
    assert "no cheaper than a retrain" in attempts["finetune"].reasons[0]
    assert result.method == "retrain" or result.verdict == "pass"


def test_a_state_dict_is_saved_as_safetensors(world: World, tmp_path: Path) -> None:
    result = unlearn(world.model, method="finetune", epochs=1, **world.arguments())
    saved = load_file(str(result.save(tmp_path / "model.safetensors")))
    assert all(torch.equal(saved[k], v) for k, v in result.model.state_dict().items())
    with pytest.raises(InputError, match="cannot be saved"):
        result.save(tmp_path / "model.pt")
    assert [f.name for f in tmp_path.iterdir()] == ["model.safetensors"]


EMPTY = TensorDataset(torch.zeros(0, 64), torch.zeros(0, dtype=torch.long))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"forget": EMPTY}, "forget set is empty"),
        ({"retain": EMPTY}, "retain set is empty"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"method": "finetune", "lrr": 1}, "no hyper-parameter 'lrr'"),
        ({"method": "auto", "lr": 1}, "setting of one method"),
        ({"method": "retrain", "retrain_epochs": None}, "needs 'epochs'"),
        ({"budget": 0}, "budget 0"),
        ({"allowed_drop": -1}, "cannot be negative"),
        ({"goal": "person"}, "no goal"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({"goal": "class"}, "No class is given"),
        ({"method": "delete"}, "not for the goal 'sample'"),
        ({"loss": nn.CrossEntropyLoss()}, "one number for a whole batch"),
        ({"forget_groups": ["a"]}, "groups of the forget set"),
        ({"tune": 0, "method": "finetune"}, "at least once"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_input(world: World, changes: dict[str, Any], what: str) -> None:
    arguments = world.arguments(**changes)
    if changes.get("tune") == 0:
        arguments["tune"] = -1
    with pytest.raises(InputError, match=what) as error:
        unlearn(world.model, **{"method": "finetune", **arguments})
    assert error.value.exit_code == 2


def test_a_damaged_model_is_refused(world: World) -> None:
    broken = copy.deepcopy(world.model)
    with torch.no_grad():
        next(broken.parameters())[0, 0] = float("inf")
    with pytest.raises(InputError, match="not all numbers"):
        unlearn(broken, method="finetune", **world.arguments())


def test_without_validation_a_part_of_the_retain_set_guards(world: World) -> None:
    result = unlearn(world.model, method="finetune", epochs=1, **world.arguments(validation=None))
    assert result.passes == 450
    assert any("No validation data" in w for w in result.warnings)


def test_nothing_judges_that_tuned(world: World) -> None:
    """The unseen data is not touched while a method's strength is looked for."""
    touched: list[int] = []

    class Spy(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            touched.append(index)
            return super().__getitem__(index)

    unseen = Spy(*world.unseen.tensors)
    from expunge.audits.unlearning_data import UnlearningData
    from expunge.tasks.module import ModuleTask
    from expunge.unlearning import tuning
    from expunge.unlearning.run import Unlearning, UnlearningOptions

    material = UnlearningData(world.forget, world.retain, world.validation, unseen)
    work = Unlearning(
        world.model, material, ModuleTask(LOSS), UnlearningOptions(tune=3, budget=3.0, retrain_epochs=30)
    )
    touched.clear()
    seen: list[int] = []
    conclude = work.conclude
    work.conclude = lambda c: (seen.append(len(touched)), conclude(c))[1]  # type: ignore[method-assign]
    result = tuning.run(work, "neggrad_plus", {"epochs": 1})
    assert seen == [0]
    assert touched
    assert "tuned on held-out data" in " ".join(result.warnings)


def test_frozen_layers_stay(world: World) -> None:
    model = copy.deepcopy(world.model)
    model[0].requires_grad_(False)  # type: ignore[index]
    result = unlearn(model, method="finetune", epochs=1, lr=0.01, **world.arguments())
    after = result.model
    assert torch.equal(after[0].weight, model[0].weight)  # type: ignore[index]
    assert not torch.equal(after[3].weight, model[3].weight)  # type: ignore[index]


def test_intervals_are_over_people(world: World) -> None:
    groups = [f"p{i // 10}" for i in range(100)]
    others = [f"u{i // 10}" for i in range(400)]
    result = unlearn(
        world.model,
        method="finetune",
        goal="subject",
        forget_groups=groups,
        unseen_groups=others,
        epochs=1,
        **world.arguments(),
    )
    assert result.verdict == "fail"
    assert Subset(world.forget, [0])[0][0].shape == (64,)
