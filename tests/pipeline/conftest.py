# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import pytest
from proof import train_inline


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process."""
    train_inline(monkeypatch)
