# SPDX-License-Identifier: Apache-2.0
"""The worked example of docs/serve.md works: a portal files a request by curl and by a small client."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from desk_kit import Desk

from expunge.erasure import intake, scheduler
from expunge.progress import Progress
from expunge.web.auth.roles import PERMISSIONS, Role, may
from expunge.workspace import Workspace

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first code block of a language on the page."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture
def portal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A desk that listens, and what a portal knows of it."""
    program = desk.bearer(Role.OFFICER, "requests.file", "desk.view", name="portal")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(desk.app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        listening.listen()
        thread.start()
        monkeypatch.setenv("DESK", f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1")
        monkeypatch.setenv("TOKEN", program.headers["Authorization"].removeprefix("Bearer "))
        yield
        server.should_exit = True
        thread.join()


@pytest.mark.usefixtures("portal")
def test_the_client_in_python(workspace: Workspace) -> None:
    made: dict[str, Any] = {}
    exec(compile(block("python"), "docs/serve.md", "exec"), made)
    request = made["erase"]("person-0", "ticket-1")
    assert made["erase"]("person-0", "ticket-1") == request
    with pytest.raises(RuntimeError, match="key was used for another request"):
        made["erase"]("person-1", "ticket-1")
    intake.approve(workspace, request)
    scheduler.run(workspace, scheduler.QueueSelection(ids=(request,)), Progress(quiet=True))
    assert json.loads(made["certificate"](request))["payloadType"]
    made["desk"].close()


@pytest.mark.usefixtures("portal")
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl(workspace: Workspace) -> None:
    command = block("bash").replace("s17", "person-0")
    assert "person-0" in command
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    filed = json.loads(done.stdout)
    assert intake.show(workspace, filed["request"])["opened_by"] == "portal"
    again = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert json.loads(again.stdout)["request"] == filed["request"]


def test_the_page_tells_of_every_role() -> None:
    rows = re.findall(r"^\| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows if name in list(Role)] == [str(role) for role in Role]
    told = {word for word in re.findall(r"`([a-z]+\.[a-z]+)`", PAGE) if word in PERMISSIONS}
    assert all(may(Role.OFFICER, permission) for permission in told)
