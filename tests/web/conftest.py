# SPDX-License-Identifier: Apache-2.0
"""A desk over a workspace with one data set and two models of paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from desk_kit import Desk, cheap_passwords
from requests_fixtures import paper, template, workspace
from requests_kit import Clock, Paper

from expunge.workspace import Workspace

__all__ = ["paper", "template", "workspace"]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One desk for many calls that change nothing that another would mind; nothing runs on it."""
    folder = tmp_path_factory.mktemp("shared")
    return Desk(Workspace(Path(shutil.copytree(template, folder / ".expunge")), Clock()))


@pytest.fixture
def desk(workspace: Workspace, paper: Paper) -> Desk:
    """The desk of that workspace."""
    return Desk(workspace)
