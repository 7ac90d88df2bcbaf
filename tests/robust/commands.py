# SPDX-License-Identifier: Apache-2.0
"""Runs ``expunge`` commands in processes of their own, and looks at what they leave behind."""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
SOURCE = TESTS.parent / "src"
PATIENCE_SECONDS = 120.0


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass
class Running:
    """A command under way."""

    nursery: Nursery
    pid: int
    stdout: Path
    stderr: Path
    pids: Path
    result: Result | None = None

    def workers(self) -> list[int]:
        """The processes that it has started so far."""
        return [int(line) for line in self.pids.read_text().split()] if self.pids.exists() else []

    def wait(self) -> Result:
        """Wait for its end."""
        if self.result is None:
            code = self.nursery.ask({"wait": self.pid})
            self.result = Result(code, self.stdout.read_text(), self.stderr.read_text())
        return self.result


class Nursery:
    """The process from which commands are forked (see ``nursery.py``)."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        folders = [str(folder) for folder in (SOURCE, TESTS, TESTS.parent)]
        pinned = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "robust" / "nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **pinned, "PYTHONPATH": os.pathsep.join(folders)},
        )
        assert self._read() == "ready"

    def ask(self, job: dict[str, Any]) -> Any:
        """Send a job and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery left with code {self._process.wait()}")
        return json.loads(line)

    def start(
        self,
        cwd: Path,
        argv: list[str] | None,
        *,
        fault: dict[str, Any] | None = None,
        file: str = "",
        function: str = "",
        arguments: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
    ) -> Running:
        """Start a command (or a function of a test file, which may patch what it likes)."""
        number = next(self._numbers)
        stdout, stderr, pids = (self._folder / f"{number}.{kind}" for kind in ("out", "err", "pids"))
        job = {
            "cwd": str(cwd),
            "argv": argv,
            "fault": fault,
            "file": file,
            "function": function,
            "arguments": arguments or {},
            "stdout": str(stdout),
            "stderr": str(stderr),
            "env": {**(env or {}), "EXPUNGE_TEST_PIDS": str(pids)},
        }
        return Running(self, self.ask(job), stdout, stderr, pids)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Shop:
    """A folder with a data set (``data``) and a workspace."""

    nursery: Nursery
    folder: Path

    @property
    def root(self) -> Path:
        """The workspace."""
        return self.folder / ".expunge"

    @property
    def data(self) -> Path:
        """The user's own folder of images."""
        return self.folder / "data"

    def start(
        self, *argv: str, fault: dict[str, Any] | None = None, env: dict[str, str] | None = None
    ) -> Running:
        """Start a command with ``--json``."""
        return self.nursery.start(self.folder, [*argv, "--json"], fault=fault, env=env)

    def run(self, *argv: str, fault: dict[str, Any] | None = None) -> Result:
        """Run a command with ``--json``."""
        return self.start(*argv, fault=fault).wait()

    def ok(self, *argv: str) -> dict[str, Any]:
        """Run a command that must succeed; returns its JSON."""
        result = self.run(*argv)
        assert result.code == 0, result.out + result.err
        return result.json

    def refused(self, *argv: str) -> dict[str, Any]:
        """Run a command that must be refused as bad input; returns the error."""
        result = self.run(*argv)
        assert result.code == 2, result.out + result.err
        error = result.json
        assert set(error) == {"error", "reason", "next"}, error
        assert error["error"], error
        assert "Unexpected" not in error["error"], error
        return error

    def call(self, file: str, function: str, **arguments: Any) -> Any:
        """Call a function of a test file in a process of its own, in this folder; returns its value."""
        running = self.nursery.start(self.folder, None, file=file, function=function, arguments=arguments)
        result = running.wait()
        assert result.code == 0, result.err
        return json.loads(result.out)

    def start_call(
        self,
        file: str,
        function: str,
        env: dict[str, str] | None = None,
        fault: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Running:
        """Start what :meth:`call` waits for."""
        return self.nursery.start(
            self.folder, None, file=file, function=function, arguments=arguments, env=env, fault=fault
        )

    def copy(self, folder: Path) -> Shop:
        """Return a copy that knows its own folder of images."""
        shutil.copytree(self.folder, folder, symlinks=True)
        with closing(sqlite3.connect(folder / ".expunge" / "catalog.sqlite")) as connection:
            rows = connection.execute("SELECT id, root FROM dataset").fetchall()
            for number, root in rows:
                moved = str(root).replace(str(self.folder), str(folder), 1)
                connection.execute("UPDATE dataset SET root = ? WHERE id = ?", (moved, number))
                connection.execute("UPDATE dataset_root SET path = ? WHERE dataset_id = ?", (moved, number))
            connection.commit()
        return Shop(self.nursery, folder)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the catalog."""
        with closing(sqlite3.connect(self.root / "catalog.sqlite")) as connection:
            rows = connection.execute(statement, values).fetchall()
            connection.commit()
        return rows

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything in the catalog."""
        names = [n for (n,) in self.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(self.sql(f"SELECT * FROM {name}"), key=repr) for name in names}

    def files(self) -> dict[str, str]:
        """Return the digests of all files but the catalog's (see ``tables``) and the locks."""
        found = {}
        for file in sorted(self.folder.rglob("*")):
            inside = file.relative_to(self.folder).as_posix()
            if file.is_file() and not inside.startswith((".expunge/catalog.sqlite", ".expunge/locks/")):
                found[inside] = hashlib.sha256(file.read_bytes()).hexdigest()
        return found

    def state(self) -> tuple[Any, Any]:
        """Return all that a refused command must leave as it was."""
        return self.tables(), self.files()

    def strays(self) -> list[str]:
        """Return what looks like a file that was never finished, or that nobody knows."""
        known = {str(path) for (path,) in self.sql("SELECT weights FROM model_version")}
        odd = []
        for file in self.root.rglob("*"):
            name = file.relative_to(self.root).as_posix()
            weights = name.startswith("models/") and name not in known and str(Path(name).parent) not in known
            half = ".tmp" in file.name or file.name.endswith(".partial") or name.startswith("tmp/")
            if file.is_file() and (half or weights):
                odd.append(name)
        return odd


_shared: list[Nursery] = []


def nursery(folder: Path) -> Nursery:
    """Return the nursery of this session: the tests of several folders share one."""
    if not _shared:
        _shared.append(Nursery(folder))
        atexit.register(_shared[0].close)
    return _shared[0]


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of a condition; a deadline makes a hanging test end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for: {what}")
        time.sleep(0.02)
    return value


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and waits to be collected does not)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
