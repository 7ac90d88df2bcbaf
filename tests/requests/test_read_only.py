# SPDX-License-Identifier: Apache-2.0
"""A workspace that may be read and not written: every command says so, and nothing is half-done."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from requests_kit import PEOPLE

from expunge.catalog import states
from expunge.cli.main import cli
from expunge.erasure import execution, intake, scheduler
from expunge.erasure.intake import Opening
from expunge.erasure.scope import ErasureRequest
from expunge.evidence.key_store import VARIABLE, keys_folder
from expunge.workspace import Workspace

NOBODY = 65534
COMMANDS = {
    "open": ("request", "open", "--subject", PEOPLE[1]),
    "approve": ("request", "approve", "ID"),
    "refuse": ("request", "refuse", "ID", "--reason", "unfounded"),
    "tell": ("request", "tell", "ID", "--recipient", "a partner"),
    "run": ("request", "run", "--all"),
    "forget": ("forget", "--subject", PEOPLE[1], "--yes"),
    "repair": ("repair",),
}


@pytest.fixture
def frozen(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A workspace with one request, which nobody may write to; and the request. Its key can be read."""
    request = str(
        intake.open_request(workspace, ErasureRequest(subjects=(PEOPLE[0],)), Opening(actor="ann"))["request"]
    )
    workspace._engine.dispose()
    top = Path(
        tempfile.mkdtemp(prefix="expunge-frozen-")
    )  # not below pytest's folder, which is its user's alone
    root = Path(shutil.copytree(workspace.root, top / ".expunge"))
    for place in (*root.rglob("*"), root):
        place.chmod(0o555 if place.is_dir() else 0o444)
    top.chmod(0o755)
    keys = shutil.copytree(keys_folder(), top / "keys")
    monkeypatch.setenv(VARIABLE, str(keys))
    for place in (keys, *keys.iterdir()) if os.geteuid() == 0 else ():
        os.chown(place, NOBODY, NOBODY)
    yield root, request
    for place in (top, root, *root.rglob("*")):
        place.chmod(0o755)
    shutil.rmtree(top)


def as_nobody(argv: tuple[str, ...], root: Path) -> tuple[int, str]:
    """Run a command in a child that owns nothing; returns its exit code and what it printed."""
    assert scheduler
    assert execution
    assert states  # imported before the child drops its rights: it may not be able to read the code
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            if os.geteuid() == 0:  # to root nothing is read-only
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            done = CliRunner().invoke(cli, [*argv, "--workspace", str(root), "--json"])
            os.write(writer, done.stdout.encode())
            os._exit(done.exit_code)
        except BaseException:
            os._exit(99)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def content(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_written(frozen: tuple[Path, str], name: str) -> None:
    root, request = frozen
    before = content(root)
    code, text = as_nobody(tuple(request if word == "ID" else word for word in COMMANDS[name]), root)
    assert code == 2, text
    error = json.loads(text)
    assert "Unexpected" not in error["error"], error
    assert error["reason"], error
    assert error["next"], error
    assert "write" in json.dumps(error) or "Permission" in error["reason"], error
    assert PEOPLE[1] not in text
    assert content(root) == before


def test_a_key_that_may_not_be_read(frozen: tuple[Path, str]) -> None:
    """Not even its folder may be entered: the error says so."""
    root, request = frozen
    folder = keys_folder()
    folder.chmod(0)
    code, text = as_nobody(("request", "approve", request), root)
    folder.chmod(0o700)
    assert code == 2, text
    assert json.loads(text)["error"] == "The signing key cannot be read."
