# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the exactness tests."""

from __future__ import annotations

import pytest
from proof import train_inline


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process instead of worker processes."""
    train_inline(monkeypatch)
