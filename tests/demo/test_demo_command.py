# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from expunge.cli.main import cli
from expunge.demo import story
from expunge.demo.settings import FULL, QUICK, Settings


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Settings]]:
    """Replace the story, and return the arguments it gets; its replay succeeds with --quick only."""
    calls_made: list[tuple[Path, Settings]] = []

    class FakeStory:
        def __init__(self, folder: Path, settings: Settings, say: Any) -> None:
            calls_made.append((folder, settings))
            self.equal = settings.minutes == QUICK.minutes

        def run(self) -> dict[str, Any]:
            return {"report": "r.html", "equal": self.equal}

    monkeypatch.setattr(story, "Story", FakeStory)
    return calls_made


def test_options_reach_the_story(calls: list[tuple[Path, Settings]], tmp_path: Path) -> None:
    args = ["demo", "--out", str(tmp_path / "x"), "--quick", "--threads", "2", "--json"]
    done = CliRunner().invoke(cli, args)
    assert json.loads(done.stdout) == {"report": "r.html", "equal": True}
    assert done.exit_code == 0
    (folder, settings) = calls[0]
    assert folder == tmp_path / "x"
    assert settings.options == ("--threads", "2")
    assert settings.cast == QUICK.cast


def test_a_failed_replay_gives_exit_code_1(calls: list[tuple[Path, Settings]]) -> None:
    assert CliRunner().invoke(cli, ["demo"]).exit_code == 1
    assert calls[0] == (Path("demo").resolve(), FULL)


def test_a_workspace_is_refused(calls: list[tuple[Path, Settings]]) -> None:
    assert CliRunner().invoke(cli, ["demo", "--workspace", "w"]).exit_code == 2
    assert calls == []
