# SPDX-License-Identifier: Apache-2.0
"""A result that equals the original, or that no step led to, never passes: every method."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge import audit, unlearn
from expunge.audits.audit_model import Audit
from expunge.audits.unlearning_data import UnlearningData
from expunge.errors import InputError
from expunge.methods.base import all_methods
from expunge.tasks.module import ModuleTask
from expunge.unlearning import auto, tuning
from expunge.unlearning.run import Unlearning, UnlearningOptions

LOSS = nn.CrossEntropyLoss(reduction="none")
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(160, 8, generator=GENERATOR)
Y = (X[:, 0] > 0).long() + (X[:, 1] > 1).long()
DATA = TensorDataset(X, Y)
SAYS = "Nothing was changed"


def rows(*indices: int) -> Subset[Any]:
    return Subset(DATA, list(indices))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A classifier that knows its data, and never names class 2, of which it has an output."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        LOSS(made(X[:100]), Y[:100]).mean().backward()
        optimizer.step()
    return made


SAMPLES: dict[str, Any] = {
    "forget": rows(*range(30)),
    "retain": rows(*range(30, 100)),
    "validation": rows(*range(100, 120)),
    "unseen": rows(*range(120, 160)),
}


def sets(goal: str) -> dict[str, Any]:
    if goal != "class":
        return SAMPLES
    ones = [i for i in range(100) if int(Y[i]) == 1]
    rest = [i for i in range(100) if int(Y[i]) != 1]
    held = [i for i in range(100, 160) if int(Y[i]) != 1]
    return {"forget": rows(*ones), "retain": rows(*rest), "validation": rows(*held), "classes": [1]}


def run(model: nn.Module, name: str, goal: str = "sample", **values: Any) -> Any:
    arguments = {"retrain_epochs": 10, "budget": 50.0, "allowed_drop": 1.0, "loss": LOSS, **sets(goal)}
    return unlearn(model, method=name, goal=goal, **{**arguments, **values})


def inert(name: str, model: nn.Module) -> dict[str, Any] | None:
    """Settings with which a method makes steps that change nothing; None: it has none."""
    needed: dict[str, Any] = {"checkpoint": copy.deepcopy(model), "unseen": rows(150, 151), "epochs": 1}
    method = all_methods()[name]
    values: dict[str, Any] = {key: needed[key] for key in method.needs}
    own = method.hyperparameters
    tiny = {key: 1e-30 for key in ("lr", "impair_lr", "repair_lr") if key in own}
    if name in ("eu_k", "retrain"):  # they begin anew
        return None
    if name in ("ssd", "lfssd"):
        tiny = {"alpha": 1e30}
    if name == "influence":
        tiny = {"damping": 1e30, "samples": 8}
    if name == "amun":
        tiny |= {"steps": 3, "epochs": 1}
    if name == "msg":
        tiny["share"] = 1e-9
    return values | tiny


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def check_nothing(result: Any, model: nn.Module, folder: Path) -> None:
    assert same(result.model, model)
    assert result.verdict == "fail"
    assert result.reasons[0].startswith(SAYS)
    assert result.unchanged
    assert not result.sound
    assert not any("ver-forg" in line for line in (*result.reasons, *result.warnings))
    with pytest.raises(InputError, match="not saved") as error:
        result.save(folder / "model.safetensors")
    assert error.value.next_step
    assert not list(folder.iterdir())


CASES = [
    (name, goal)
    for name, method in sorted(all_methods().items())
    for goal in ("sample", "class")
    if goal in method.goals and name != "scrub_rewind"  # `unlearn` has an `unseen` of its own
]


@pytest.mark.parametrize(("name", "goal"), CASES, ids=lambda v: str(v))
def test_steps_that_change_nothing(model: nn.Module, name: str, goal: str, tmp_path: Path) -> None:
    values = inert(name, model)
    if values is not None:
        check_nothing(run(model, name, goal, **values), model, tmp_path)


@pytest.mark.parametrize(("name", "goal"), CASES, ids=lambda v: str(v))
def test_no_step_is_refused_before_work(name: str, goal: str) -> None:
    class Untouchable(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 4:  # a few samples say what outputs and classes there are
                raise AssertionError("work was done before the arguments were checked")
            return super().forward(x)

    model = Untouchable(nn.Linear(8, 3))
    own = all_methods()[name].hyperparameters
    base = {k: v for k, v in (inert(name, model) or {"epochs": 1}).items() if k in all_methods()[name].needs}
    bad = {"epochs": (0, -1, float("nan")), "lr": (0.0, -1e-3, float("nan")), "batch": (0,)}
    for key in own.keys() & bad.keys():
        for value in bad[key]:
            with pytest.raises(InputError, match=f"'{key}'"):
                run(model, name, goal, **{**base, key: value})
    if name != "retrain":
        with pytest.raises(InputError, match="at least"):
            run(model, name, goal, **{**base, "budget": 1e-5})


def test_a_budget_that_the_message_names_works(model: nn.Module) -> None:
    with pytest.raises(InputError, match="does not suffice") as error:
        run(model, "finetune", budget=0.01)
    least = float(error.value.next_step.split("at least ")[1].split(",")[0])
    result = run(model, "finetune", budget=least)
    assert result.steps == 1
    assert not result.unchanged
    assert result.cost <= least


def test_a_retrain_that_begins_and_ends_at_the_original(model: nn.Module, tmp_path: Path) -> None:
    with suppress(InputError):  # a start that was trained may be refused, too
        start = {"fresh": lambda: copy.deepcopy(model), "settings": {"lr": 1e-30}}
        check_nothing(run(model, "retrain", epochs=1, **start), model, tmp_path)


Method = Callable[..., nn.Module]


def rolled_back(
    model: nn.Module, forget: Any, retain: Any, task: Any, *, progress: Any, budget: Any, **_: Any
) -> nn.Module:
    """A first state that is the original, then a step to rubbish."""
    student: nn.Module = task.clone(model)
    progress.round(student)
    with torch.no_grad():
        for p in student.parameters():
            p.fill_(float("nan"))
    budget.steps += 1
    progress.round(student)
    return student


def stepless(model: nn.Module, forget: Any, retain: Any, task: Any, **_: Any) -> nn.Module:
    """Other tensors, and no step that led to them."""
    student: nn.Module = task.clone(model)
    with torch.no_grad():
        next(student.parameters()).add_(1e-3)
    return student


def lost_in_rounding(
    model: nn.Module, forget: Any, retain: Any, task: Any, *, budget: Any, **_: Any
) -> nn.Module:
    """A change below the resolution of the digest, which counts in single precision."""
    student: nn.Module = task.clone(model).double()
    with torch.no_grad():
        next(student.parameters()).mul_(1 + 1e-15)
    budget.steps += 1
    return student.float()


@pytest.mark.parametrize("method", [rolled_back, stepless, lost_in_rounding], ids=lambda f: f.__name__)
@pytest.mark.parametrize("goal", ["sample", "class"])
def test_methods_of_others(
    model: nn.Module, add_method: Callable[..., None], method: Method, goal: str, tmp_path: Path
) -> None:
    add_method("other", method, goals=("sample", "class"))
    check_nothing(run(model, "other", goal), model, tmp_path)


def test_a_change_that_no_loss_shows(model: nn.Module, tmp_path: Path) -> None:
    """A parameter that was zero takes any change: other tensors, and the same model all the same."""
    zero = copy.deepcopy(model)
    with torch.no_grad():
        zero[0].bias.zero_()  # type: ignore[index]
    result = run(zero, "finetune", epochs=1, lr=1e-30, accept_no_power=True)
    assert not same(result.model, zero)
    assert result.verdict == "fail"
    assert result.reasons[0].startswith(SAYS)
    assert result.unchanged
    with pytest.raises(InputError, match="not saved"):
        result.save(tmp_path / "model.safetensors")
    parts = {k: SAMPLES[k] for k in ("forget", "retain", "unseen")}
    assert audit(result.model, original=zero, loss=LOSS, **parts).reasons[0].startswith(SAYS)


def test_a_method_that_steps_with_an_optimizer_and_does_not_count(
    model: nn.Module, add_method: Callable[..., None]
) -> None:
    def modest(model: nn.Module, forget: Any, retain: Any, task: Any, **_: Any) -> nn.Module:
        student: nn.Module = task.clone(model)
        optimizer = torch.optim.SGD(student.parameters(), 0.1)
        task.loss(student, task.collate([retain[i] for i in range(40)])).mean().backward()
        optimizer.step()
        return student

    add_method("modest", modest)
    result = run(model, "modest")
    assert not result.unchanged
    assert not same(result.model, model)


def test_auto_never_takes_the_original(
    model: nn.Module, add_method: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where no-power is accepted either, and not as the best of what failed."""
    add_method("idle", stepless, cost=0.01)
    monkeypatch.setattr(auto, "candidates", lambda goal: ["idle"])
    few = rows(*range(120, 125))  # too few to judge: no-power at best
    result = run(model, "auto", unseen=few, accept_no_power=True, retrain_epochs=None, tune=1)
    assert result.verdict == "fail"
    assert result.unchanged
    assert [a.outcome for a in result.tried] == ["fail"]


def test_tuning_prefers_what_changed(model: nn.Module) -> None:
    material = UnlearningData(*(SAMPLES[k] for k in ("forget", "retain", "validation", "unseen")))
    terms = UnlearningOptions(tune=4, budget=50.0, retrain_epochs=10, allowed_drop=1.0)
    work = Unlearning(model, material, ModuleTask(LOSS), terms)
    found = tuning.run(work, "neggrad_plus", {"lr": 1e-30, "epochs": 1})
    assert found.verdict == "fail"
    assert found.unchanged


def test_an_audit_of_the_original(model: nn.Module) -> None:
    parts = {k: SAMPLES[k] for k in ("forget", "retain", "unseen")}
    for candidate in (model, copy.deepcopy(model)):
        report = audit(candidate, original=model, loss=LOSS, **parts)
        assert report.verdict == "fail"
        assert report.failure == "under-forgetting"
        assert report.reasons == (f"{SAYS}: the tensors are those of the original model.",)
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert not audit(other, original=model, loss=LOSS, **parts).reasons[0].startswith(SAYS)  # the control


def test_an_audit_counts_statistics_too(model: nn.Module) -> None:
    """Buffers are part of a model: a candidate that differs in them alone is not the original."""
    twin = nn.Sequential(copy.deepcopy(model), nn.BatchNorm1d(3)).eval()
    other = copy.deepcopy(twin)
    other[1].running_mean.add_(0.1)
    parts = {k: SAMPLES[k] for k in ("forget", "retain", "unseen")}
    assert audit(twin, original=twin, loss=LOSS, **parts).reasons[0].startswith(SAYS)
    assert not audit(other, original=twin, loss=LOSS, **parts).reasons[0].startswith(SAYS)


def test_an_audit_of_a_class(model: nn.Module) -> None:
    parts = sets("class")
    material = UnlearningData(
        parts["forget"], parts["retain"], parts["validation"], parts["validation"], "class", classes=(1,)
    )
    task = ModuleTask(LOSS)
    found = Audit(task, task.clone(model), [], material).verdict(task.clone(model))
    assert found.verdict == "fail"
    assert found.reasons[0].startswith(SAYS)


def test_a_class_that_the_original_never_named_is_not_absent(model: nn.Module) -> None:
    """A step that changes a little: not the original any more, and nothing that could be judged."""
    blind = copy.deepcopy(model)
    with torch.no_grad():
        blind[2].bias[1] -= 1e3  # type: ignore[index]
    result = run(blind, "finetune", "class", epochs=1, lr=1e-3)
    assert not result.unchanged
    assert result.verdict == "no-power"
    assert "could not notice" in result.reasons[0]
    assert result.audit.traceable is False


def test_a_forget_set_that_was_harder_from_the_start_is_no_over_forgetting(model: nn.Module) -> None:
    wrong = TensorDataset(X[:30], (Y[:30] + 1) % 3)
    result = run(model, "finetune", forget=wrong, lr=1e-5, epochs=1)
    assert not result.unchanged
    assert not any("ver-forg" in line for line in result.warnings)
