# SPDX-License-Identifier: Apache-2.0
"""Fixtures of a queue without trainings: a data set in the catalog, a clock set by hand, models of paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from requests_kit import PEOPLE, Clock, Paper, add_people

from expunge.erasure.workspace import Workspace


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one data set."""
    workspace = Workspace.init(tmp_path_factory.mktemp("template"))
    add_people(workspace, PEOPLE)
    workspace._engine.dispose()
    return workspace.root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    """A copy of it, with its own clock."""
    return Workspace(Path(shutil.copytree(template, tmp_path / ".expunge")), Clock())


@pytest.fixture
def paper(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Paper:
    """Two models of which a training is one line."""
    paper = Paper(workspace)
    paper.install(monkeypatch)
    return paper
