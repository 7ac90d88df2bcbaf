# SPDX-License-Identifier: Apache-2.0
"""A memorising classifier, and a way to register a method for one test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset
from unlearning_world import World, trained

from expunge.methods import base


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits, generator = load_digits(), torch.Generator().manual_seed(0)
    order = torch.randperm(len(digits.target), generator=generator)
    x = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    y = torch.tensor(digits.target)[order]
    wrong = torch.rand(len(y), generator=generator) < 0.2
    y = torch.where(wrong, (y + torch.randint(1, 10, y.shape, generator=generator)) % 10, y)
    cuts = (0, 100, 600, 1000, 1400)
    parts = [TensorDataset(x[a:b], y[a:b]) for a, b in itertools.pairwise(cuts)]
    model = trained(TensorDataset(x[:600], y[:600]), 1)
    yield World(model, *parts)
    torch.set_num_threads(threads)


@pytest.fixture
def add_method(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register a method for one test."""
    base.all_methods()

    def add(name: str, function: Callable[..., nn.Module], **columns: Any) -> None:
        columns = {"goals": ("sample",), "cost": 0.1, "paper": "-", **columns}
        monkeypatch.setitem(base._REGISTRY, name, base.Method(name, function, **columns))

    return add
