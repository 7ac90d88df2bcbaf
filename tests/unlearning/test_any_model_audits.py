# SPDX-License-Identifier: Apache-2.0
"""Audits and references of any model and any form of samples."""

from __future__ import annotations

from typing import Any

import any_model as a
import pytest
import torch
from any_model import CE, TAKEN, Kind, net, pair, sets
from any_model_kit import pruned, run, same, weights
from torch import nn

from expunge import audit, train_references
from expunge.audits.probes.altered_inputs import takes_noise
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask

TRAINED_COPIES = ("by name, in a pair", "regression", "words", "half", "all frozen", "pruned")
ONLY_OUTPUTS = ("two inputs", "tuple outputs", "multi-label", "named tuples", "loaders", "DataParallel")


@pytest.mark.parametrize("name", [*TRAINED_COPIES, *ONLY_OUTPUTS])
def test_an_audit_takes_what_unlearn_takes(name: str) -> None:
    more = {
        "half": Kind(lambda: net().half()),
        "all frozen": Kind(lambda: net().requires_grad_(False)),
        "pruned": Kind(pruned),
    }
    kind = {**TAKEN, **more}[name]
    data = {k: v for k, v in kind.data().items() if k != "validation"}
    trains = name in TRAINED_COPIES  # what trains copies costs most
    models = [kind.model() for _ in range(3 if trains else 2)]
    for i, model in enumerate(models[1:]):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * (i + 1))
    original, candidate, *references = models
    report = audit(
        candidate,
        original=original,
        references=references,
        loss=kind.loss,
        probes=["relearn", "linear", "int8"] if trains else ["linear", "int8"],
        **data,
        **kind.arguments,
    )
    assert report.level == ("standard" if trains else "quick")
    assert report.verdict in ("pass", "fail", "no-power")


def test_words_get_no_noise() -> None:
    task = ModuleTask(CE)
    assert takes_noise(task, sets(pair)["forget"])
    assert not takes_noise(task, TAKEN["words"].data()["forget"])


def test_an_audit_of_a_wrapped_model_is_that_of_the_model_inside() -> None:
    data = {k: v for k, v in sets(pair).items() if k != "validation"}
    other = run(Kind(net), "finetune").model
    bare = audit(other, original=net(), loss=CE, **data)
    wrapped = audit(nn.DataParallel(other), original=net(), loss=CE, **data)
    assert bare == wrapped


def test_an_audit_finds_the_overlap_of_structured_inputs() -> None:
    data = sets(lambda i: ((a.X[i, :2], a.X[i, 2:]), a.Y[i]))
    with pytest.raises(InputError, match="1 of the unseen samples"):
        audit(
            a.Two(), original=a.Two(), loss=CE, forget=data["forget"], retain=data["retain"],
            unseen=[*data["unseen"], data["forget"][0]],
        )  # fmt: skip


# References.


def test_references_of_dicts_are_those_of_pairs() -> None:
    retain = sets(pair)["retain"]
    expected = train_references(net(), retain=retain, loss=CE, count=2, epochs=2)
    dicts = train_references(
        net(), retain=[{"pixels": x, "label": y} for x, y in retain], loss=CE, count=2, epochs=2
    )
    assert all(same(weights(one), weights(two)) for one, two in zip(expected, dicts, strict=True))


@pytest.mark.parametrize("model", [lambda: a.Scaled(2), a.Tied])
def test_references_with_tied_weights_are_trained_at_once(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    retain, seen = sets(pair)["retain"], []
    single = train_references(model(), retain=retain, loss=CE, count=1, epochs=2)[0]
    monkeypatch.setattr(ModuleTask, "retrain", lambda *_, **__: seen.append(1))
    found = train_references(model(), retain=retain, loss=CE, count=2, epochs=2)[0]
    assert not seen
    for x, y in zip(found.parameters(), single.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
    assert found.first.weight is found.second.weight


class Branches(nn.Module):
    """A model that vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found if float(found.sum()) == float(found.sum()) else -found


def test_references_of_what_vmap_cannot_follow_are_trained_one_by_one() -> None:
    retain = sets(pair)["retain"]
    found = train_references(Branches(), retain=retain, loss=CE, count=2, epochs=2)
    expected = train_references(net(), retain=retain, loss=CE, count=2, epochs=2)
    for one, two in zip(found, expected, strict=True):
        for x, y in zip(weights(one), weights(two), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_references_come_in_the_models_precision() -> None:
    found = train_references(net().bfloat16(), retain=sets(pair)["retain"], loss=CE, count=2, epochs=1)
    assert {p.dtype for model in found for p in model.parameters()} == {torch.bfloat16}
