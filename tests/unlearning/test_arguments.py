# SPDX-License-Identifier: Apache-2.0
"""Data sets and classes that do not fit together are refused before any work."""

from __future__ import annotations

import copy
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from expunge import audit, train_references, unlearn
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask
from expunge.unlearning.arguments import check_apart, content_digest

LOSS = nn.CrossEntropyLoss(reduction="none")
TASK = ModuleTask(LOSS)
generator = torch.Generator().manual_seed(0)
X = torch.randn(120, 6, generator=generator)
Y = torch.arange(120) % 3
DATA = TensorDataset(X, Y)


class Untouchable(nn.Sequential):
    """A model that fails if it is run on more than a few samples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 4:
            raise AssertionError("work was done before the arguments were checked")
        return super().forward(x)


def network(kind: type[nn.Sequential] = nn.Sequential) -> nn.Module:
    torch.manual_seed(0)
    return kind(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def rows(*indices: int) -> Subset[Any]:
    return Subset(DATA, list(indices))


def copies(*indices: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Samples equal by content, in objects of their own."""
    return [(X[i].clone(), Y[i].clone()) for i in indices]


SETS: dict[str, Any] = {
    "forget": rows(*range(10)),
    "retain": rows(*range(10, 60)),
    "validation": rows(*range(60, 90)),
    "unseen": rows(*range(90, 120)),
}


def run(model: nn.Module | None = None, **changes: Any) -> Any:
    arguments = {**SETS, "loss": LOSS, "method": "finetune", "epochs": 1, "retrain_epochs": 4}
    return unlearn(model or network(Untouchable), **{**arguments, **changes})


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("retain", "forget"),
        ("validation", "forget"),
        ("unseen", "forget"),
        ("unseen", "retain"),
        ("unseen", "validation"),
    ],
)
@pytest.mark.parametrize("how", [rows, copies], ids=["same indices", "equal content"])
def test_sets_that_must_be_apart(part: str, other: str, how: Any) -> None:
    first = SETS[other].indices[0]
    shared = ConcatDataset([SETS[part], how(first, first + 1)])
    with pytest.raises(InputError, match=r"2 of the \w+ samples are in the \w+ set") as error:
        run(**{part: shared})
    assert part in str(error.value)
    assert other in str(error.value)
    assert error.value.exit_code == 2
    assert error.value.next_step
    if part != "validation" and (part, other) != ("unseen", "validation"):
        given = {k: v for k, v in {**SETS, part: shared}.items() if k != "validation"}
        with pytest.raises(InputError, match="samples are in the"):
            audit(network(Untouchable), original=network(Untouchable), loss=LOSS, **given)


def test_the_same_set_twice() -> None:
    with pytest.raises(InputError, match="10 of the forget samples are in the retain set"):
        run(retain=SETS["forget"])


def test_a_corrected_label_may_stay_and_may_not_judge() -> None:
    corrected = [(X[0], (Y[0] + 1) % 3)]
    check_apart(TASK, SETS["forget"], ConcatDataset([SETS["retain"], corrected]))  # type: ignore[list-item]
    with pytest.raises(InputError, match="1 of the unseen samples are in the forget set"):
        check_apart(TASK, SETS["forget"], SETS["retain"], unseen=corrected)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["forget", "retain", "validation", "unseen"])
def test_empty_sets(part: str) -> None:
    with pytest.raises(InputError, match=f"The {part} set is empty"):
        run(**{part: []})
    if part != "validation":
        given = {k: v for k, v in {**SETS, part: []}.items() if k != "validation"}
        with pytest.raises(InputError, match=f"The {part} set is empty"):
            audit(network(), original=network(), loss=LOSS, **given)


@pytest.mark.parametrize("groups", ["forget_groups", "unseen_groups"])
@pytest.mark.parametrize("count", [0, 9, 31])
def test_groups_of_another_length(groups: str, count: int) -> None:
    with pytest.raises(InputError, match="groups of the"):
        run(**{groups: ["a"] * count})


BAD_CLASSES = [
    [7], [3], [-1], [True], ["1"], "1", [1.0], [None], [1, 1], 1, {1}, [0], [0, 1], [], [float("nan")], [[1]],
]  # fmt: skip


@pytest.mark.parametrize("classes", BAD_CLASSES, ids=str)
def test_classes_that_model_or_forget_set_do_not_have(classes: Any) -> None:
    """The forget set shows class 1 alone."""
    ones = [i for i in range(60) if Y[i] == 1]
    parts = {
        "forget": rows(*ones),
        "retain": rows(*(i for i in range(60) if Y[i] != 1)),
        "validation": rows(*(i for i in range(60, 120) if Y[i] != 1)),
        "unseen": None,
    }
    with pytest.raises(InputError) as error:
        run(network(), goal="class", classes=classes, **parts)
    assert error.value.next_step
    assert run(network(), goal="class", classes=[np.int64(1)], **parts).steps  # the control


def test_absence_is_judged_on_samples_that_show_the_class() -> None:
    result = run(network(), goal="class", classes=[1])
    assert result.audit.figures[0]["n"] == 3  # of ten forgotten samples
    with pytest.raises(InputError, match="goal is not to remove one"):
        run(classes=[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": float("nan")}, {"budget": -1.0}, {"budget": float("inf")}, {"budget": True},
        {"allowed_drop": float("nan")}, {"allowed_drop": -0.1}, {"seed": -1}, {"seed": 1.5}, {"tune": 0},
        {"retrain_epochs": 0}, {"retrain_epochs": -3}, {"retrain_epochs": 2.5}, {"retrain_epochs": True},
    ],
    ids=str,
)  # fmt: skip
def test_terms_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        run(**changes)


@pytest.mark.parametrize("changes", [{"count": 0}, {"epochs": 0}, {"lr": 0.0}, {"lr": -1}, {"batch": 0}])
def test_references_that_learn_nothing(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"retain": SETS["retain"], "loss": LOSS, "count": 1, "epochs": 1, **changes}
    with pytest.raises(InputError):
        train_references(network(Untouchable), **arguments)


def test_a_set_that_augments_leaves_the_generators_alone() -> None:
    class Noisy(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            x, y = super().__getitem__(index)
            return x + torch.randn(6), y

    before = torch.get_rng_state()
    check_apart(TASK, Noisy(X[:10], Y[:10]), Noisy(X[10:60], Y[10:60]))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_sample_is_loaded_once() -> None:
    loaded: list[int] = []

    class Spy(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            loaded.append(index)
            return super().__getitem__(index)

    spy = Spy(X, Y)
    parts: dict[str, Any] = {name: Subset(spy, data.indices) for name, data in SETS.items()}
    check_apart(
        TASK, parts["forget"], parts["retain"], validation=parts["validation"], unseen=parts["unseen"]
    )
    assert sorted(loaded) == list(range(120))
    loaded.clear()
    with pytest.raises(InputError):
        check_apart(TASK, parts["forget"], Subset(spy, [0, 20]))
    assert not loaded  # the same index of the same data set: nothing has to be loaded


Point = namedtuple("Point", "x y")
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-99, 99), st.floats(allow_nan=False), st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(-9, 9), max_size=4).map(lambda v: torch.tensor(v, dtype=torch.int64)),
    st.lists(st.floats(-9, 9, width=16), max_size=4).map(lambda v: torch.tensor(v, dtype=torch.bfloat16)),
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4).map(lambda v: np.array(v, np.float32)),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES)
def test_equal_content_has_an_equal_digest(value: Any) -> None:
    assert content_digest(copy.deepcopy(value)) == content_digest(value)
    assert content_digest([value]) != content_digest([value, value])
    if isinstance(value, dict):
        assert content_digest(dict(reversed(value.items()))) == content_digest(value)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=6), st.data())
def test_one_number_more_or_less_is_another_content(numbers: list[float], data: st.DataObject) -> None:
    one = torch.tensor(numbers)
    place = data.draw(st.integers(0, len(numbers) - 1))
    other = one.clone()
    other[place] += 1
    assert content_digest({"x": one}) != content_digest({"x": other})
    assert content_digest(one) != content_digest(one[None])
    assert content_digest(one) == content_digest(one.numpy())
    assert content_digest(one) != content_digest(one.double())
