# SPDX-License-Identifier: Apache-2.0
"""No command tries to reach the network: every process of a training and an erasure is listened to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from robust import world
from robust.commands import SOURCE, Shop

from expunge.exact.runner import available_cores

# Imported by every Python process below, before anything else.
EAR = """
import os, sys

log = os.environ["EXPUNGE_TEST_LOG"]
asked = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr",
         "socket.getnameinfo", "socket.sendto", "socket.sendmsg", "socket.bind", "urllib.Request")

def write(*words):
    with open(log, "a") as file:
        file.write(" ".join(map(str, words)) + chr(10))

def listen(event, arguments):
    if event in asked and getattr(arguments[0], "family", None) != 1:  # AF_UNIX stays on the machine
        write("network", event, arguments[1:])
        raise PermissionError("no network here")

sys.addaudithook(listen)
write("process", os.path.basename(getattr(sys, "orig_argv", ["?"])[-1]), *sys.orig_argv[1:3])
"""
# In one process, so that torch is imported once: the two commands of which the network must hear nothing.
STORY = """
import contextlib, io, json, sys
from expunge.cli.main import cli

for argv in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            cli.main([*argv, "--json"], prog_name="expunge")
        except SystemExit as left:
            assert not left.code, out.getvalue()
    print(json.dumps(json.loads(out.getvalue())))
"""


@pytest.fixture
def ear(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that are listened to; ``EXPUNGE_TEST_LOG`` is what was heard."""
    folder = tmp_path / "ear"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(EAR)
    path = os.pathsep.join((str(folder), str(SOURCE)))
    return {**os.environ, "PYTHONPATH": path, "EXPUNGE_TEST_LOG": str(tmp_path / "heard")}


def heard(ear: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the processes, and what they asked of the network."""
    lines = Path(ear["EXPUNGE_TEST_LOG"]).read_text().splitlines()
    return [x for x in lines if x.startswith("process")], [x for x in lines if x.startswith("network")]


def test_training_and_forgetting_are_silent(bare: Shop, ear: dict[str, str], undisturbed: Any) -> None:
    commands = json.dumps([world.TRAIN, ("forget", "--subject", "s03"), ("models",)])
    done = subprocess.run(
        [sys.executable, "-c", STORY, commands], cwd=bare.folder, env=ear, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    train, forget, _ = (json.loads(line) for line in done.stdout.splitlines())
    assert train["digest"] == undisturbed.trained
    assert forget["models"][0]["digest"] == undisturbed.forgotten
    processes, asked = heard(ear)
    assert asked == []
    trainings = sum("expunge.exact.worker" in line for line in processes)
    assert trainings == min(2, available_cores()) + 1, "two shards as the cores allow, and the repair of one"


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('203.0.113.1', 80), 1)",
        "socket.getaddrinfo('example.invalid', 80)",
        "socket.gethostbyname('example.invalid')",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('203.0.113.1', 53))",
        "urllib.request.urlopen('http://example.invalid/')",
    ],
)
def test_the_ear_hears(ear: dict[str, str], attempt: str) -> None:
    """Negative control, also from a process below; sockets within the machine are let through."""
    local = "a, b = socket.socketpair(); a.sendall(b'x'); b.recv(1)"
    code = f"import socket, urllib.request; {local}; {attempt}"
    below = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    done = subprocess.run([sys.executable, "-c", below], env=ear, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no network here" in done.stderr
    processes, asked = heard(ear)
    assert len(processes) == 2
    assert asked
