# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the pipeline tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worlds
from proof import Story, train_inline

from expunge.models import training


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in the test process instead of child processes."""
    train_inline(monkeypatch)


@pytest.fixture(params=["detect", pytest.param("classify", marks=pytest.mark.slow)])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """Return a workspace with an erasable model ``m`` and an adopted model ``old`` with the same weights."""
    task = request.param
    make = worlds.detection if task == "detect" else worlds.classification
    story = Story(tmp_path, make(tmp_path / "data"), task, shards=1, slices=1, epochs=1)
    story.begin()
    copy = tmp_path / "elsewhere.pt"
    shutil.copyfile(story.workspace.root / story.newest().weights, copy)
    training.adopt(story.workspace, copy, "shop", "old")
    return story
