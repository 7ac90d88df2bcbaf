# SPDX-License-Identifier: Apache-2.0
"""The command `serve`: what it refuses, and what it prints."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from desk_kit import PASSWORD, Desk

from expunge.cli import serve
from expunge.errors import InputError, NotFound
from expunge.web import server
from expunge.web.auth import accounts, links
from expunge.web.auth.roles import Role
from expunge.web.settings import ServerSettings
from expunge.workspace import Workspace


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server tells whoever starts it; it does not begin to serve."""
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: [s.close() for s in sockets])
    return []


def test_the_first_link_is_printed_until_there_is_an_admin(workspace: Workspace, said: list[str]) -> None:
    server.run(workspace, ServerSettings(port=0, workers=False), said.append)
    assert "within 10 minutes" in said[1]
    address, _, secret = said[2].strip().partition("/link/")
    assert said[0].endswith(address)
    links.use_link(workspace, secret, PASSWORD, "ann")
    said.clear()
    server.run(workspace, ServerSettings(port=0, workers=False), said.append)
    assert len(said) == 1


def test_a_link_for_somebody_who_lost_the_password(workspace: Workspace, said: list[str]) -> None:
    settings = ServerSettings(port=0, workers=False)
    Desk(workspace).account("ann", Role.ADMIN)
    server.run(workspace, settings, said.append, "ann")
    links.use_link(workspace, said[-1].rpartition("/")[2], "another good password")
    assert accounts.check_password(workspace, "ann", "another good password", "here").name == "ann"
    with pytest.raises(NotFound):
        server.run(workspace, settings, said.append, "nobody")


def test_a_port_that_is_taken(workspace: Workspace, said: list[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match="cannot listen on"):
            server.run(workspace, ServerSettings(port=other.getsockname()[1], workers=False), said.append)
    assert said == [], "no link is printed that nobody could open"


def test_it_says_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    really = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name == "argon2" else really(name, *rest)

    monkeypatch.setattr(serve, "find_spec", find)
    with pytest.raises(InputError, match="not installed") as error:
        CliRunner().invoke(serve.serve, [], catch_exceptions=False, standalone_mode=False)
    assert "expunge[serve]" in error.value.next_step
    assert "argon2" in error.value.why


def test_help_imports_nothing_of_the_web() -> None:
    code = (
        "import sys\nfrom expunge.cli.main import cli\n"
        "try:\n    cli.main(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'fastapi', 'uvicorn', 'argon2', 'torch'}\nprint(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_refused_on_the_command_line(workspace: Workspace) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "serve", "--host", "0.0.0.0", "--workspace", str(workspace.root)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--behind-tls" in done.stderr
