# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the behavioural tests of methods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from methods.runs import Runs


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Use one thread, because results are compared byte by byte."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def runs() -> Runs:
    """Return worlds and runs, each created once."""
    return Runs()
