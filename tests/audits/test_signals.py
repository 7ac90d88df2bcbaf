# SPDX-License-Identifier: Apache-2.0
"""Signals of a task, gathered over a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge.audits.signals import collect
from expunge.errors import InputError
from expunge.tasks.module import ModuleTask


def world() -> tuple[ModuleTask, nn.Module, TensorDataset]:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(
        torch.randn((7, 4), generator=generator), torch.randint(0, 3, (7,), generator=generator)
    )
    torch.manual_seed(1)
    return ModuleTask(nn.CrossEntropyLoss(reduction="none")), nn.Linear(4, 3), data


def test_batches_do_not_matter_and_order_is_kept() -> None:
    task, model, data = world()
    whole = collect(task, model, data)
    assert set(whole) == {"negative_loss", "logit", "margin"}
    for batch in (1, 3, 7):
        for name, values in collect(task, model, data, batch=batch).items():
            assert values == pytest.approx(whole[name])
            assert values.dtype == np.float64
    turned = collect(task, model, Subset(data, [6, 5, 4, 3, 2, 1, 0]))
    assert turned["logit"] == pytest.approx(whole["logit"][::-1])
    assert collect(task, model, Subset(data, [])) == {}


def test_no_gradient_is_kept_and_the_model_stays_as_it_is() -> None:
    task, model, data = world()
    before: Any = {k: v.clone() for k, v in model.state_dict().items()}
    collect(task, model, data)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_destroyed_model_is_an_error() -> None:
    task, model, data = world()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="negative_loss are not all finite"):
        collect(task, model, data)
