# SPDX-License-Identifier: Apache-2.0
"""Runs any model by any method with light settings."""

from __future__ import annotations

from typing import Any

import any_model as a
import pytest
import torch
from any_model import Kind, net
from methods.table import LIGHT
from torch import nn
from torch.nn.utils import prune

from expunge import unlearn
from expunge.errors import InputError
from expunge.methods.base import all_methods

FEW: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 1},
    "ssd": {},
    "bad_teacher": {},
    "random_label": {"epochs": 1},
    "boundary_shrink": {"epochs": 1, "goal": "class", "classes": [1]},
    "retrain": {"epochs": 1},
}


def settings(method: str) -> dict[str, Any]:
    found = all_methods()[method]
    values = {**LIGHT.get(method, {}), **FEW.get(method, {})}
    if "epochs" in found.hyperparameters:
        values["epochs"] = 1
    if method == "unsir":
        values |= {"noise_steps": 2, "batch": 4}
    if method == "amun":
        values["doublings"] = 8
    if found.goals == ("class",):
        values |= {"goal": "class", "classes": [1]}
    return values


def run(kind: Kind, method: str, **more: Any) -> Any:
    arguments = {**settings(method), **kind.arguments, **more}
    return unlearn(kind.model(), loss=kind.loss, method=method, **kind.data(), **arguments)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [v.detach().clone() for v in model.state_dict().values()]


PLAIN: dict[str, list[torch.Tensor]] = {}


def plain(method: str) -> list[torch.Tensor]:
    if method not in PLAIN:
        PLAIN[method] = weights(run(Kind(net), method).model)
    return PLAIN[method]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def pruned() -> nn.Module:
    model = net()
    prune.random_unstructured(model[0], "weight", 0.5)
    prune.l1_unstructured(model[2], "weight", 0.3)
    return a.used(model)


def refuse(call: Any, message: str | None = None) -> InputError:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert caught.value.next_step
    assert "/home" not in str(caught.value)
    return caught.value
