# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worlds
from proof import Story, train_inline

from expunge import training


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process."""
    train_inline(monkeypatch)


@pytest.fixture(params=["detect", pytest.param("classify", marks=pytest.mark.slow)])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """A workspace with the model ``old``, which was trained elsewhere (and one, ``m``, trained here)."""
    task = request.param
    make = worlds.detection if task == "detect" else worlds.classification
    story = Story(tmp_path, make(tmp_path / "data"), task, shards=1, slices=1, epochs=1)
    story.begin()
    copy = tmp_path / "elsewhere.pt"
    shutil.copyfile(story.workspace.root / story.newest().weights, copy)
    training.adopt(story.workspace, copy, "shop", "old")
    return story
