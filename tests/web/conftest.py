# SPDX-License-Identifier: Apache-2.0
"""A desk over a workspace with one data set and two models of paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from desk_kit import Desk, cheap_passwords
from requests_kit import PEOPLE, Clock, Paper, add_people

from expunge.workspace import Workspace


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


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


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One desk for many calls that change nothing that another would mind; nothing runs on it."""
    folder = tmp_path_factory.mktemp("shared")
    return Desk(Workspace(Path(shutil.copytree(template, folder / ".expunge")), Clock()))


@pytest.fixture
def paper(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Paper:
    """Two models of which a training is one line."""
    paper = Paper(workspace)
    paper.install(monkeypatch)
    return paper


@pytest.fixture
def desk(workspace: Workspace, paper: Paper) -> Desk:
    """The desk of that workspace."""
    return Desk(workspace)
