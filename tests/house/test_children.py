# SPDX-License-Identifier: Apache-2.0
"""One module starts processes, and what it starts imports nothing from the current folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge import processes

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ("src/expunge/processes.py", "scripts/children.py")
MODULES = ("subprocess", "multiprocessing", "pty", "torch.multiprocessing", "concurrent.futures.process")
CALLS = ("fork", "system", "popen", "startfile", "exec", "spawn", "posix_spawn", "create_subprocess")
NAMES = ("ProcessPoolExecutor", "DataLoader")


def starters(source: str) -> Iterator[str]:
    """Yield what in Python source could start a process; imports for type hints alone are fine."""
    tree = ast.parse(source)
    hints = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", "")
            found = [f"{owner}.{node.attr}"] if owner not in MODULES else []  # its import is found
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = [node.value] if node.value in MODULES else []  # import_module("subprocess")
        for name in found:
            owner, _, last = name.rpartition(".")
            process = owner in ("os", "asyncio", "posix") and last.startswith(CALLS)
            if process or name == "sys.executable" or last in NAMES or name.startswith(MODULES):
                yield f"{getattr(node, 'lineno', 0)}: {name}"


def test_one_module_starts_processes() -> None:
    files = [f for top in ("src", "scripts", "benchmarks") for f in sorted((ROOT / top).rglob("*.py"))]
    names = {f.relative_to(ROOT).as_posix(): f for f in files}
    assert set(HELPERS) <= names.keys()
    assert len(names) > 300
    found = [
        f"{name}:{place}"
        for name, file in names.items()
        if name not in HELPERS
        for place in starters(file.read_text(encoding="utf-8"))
        # The set-up runs before there is a package: it names its Python in command lines of its helper.
        if not (name == "scripts/setup.py" and place.endswith("sys.executable"))
        # Unpacks a loader of the user's to its data set; it is never iterated.
        and not (name == "src/expunge/tasks/user_samples.py" and place.endswith("DataLoader"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "import subprocess as s",
        "import multiprocessing.pool",
        "from torch import multiprocessing",
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures as c\nc.ProcessPoolExecutor(2)",
        "import os\nos.system('x')",
        "import os\nos.execv('x', [])",
        "from os import posix_spawn",
        "import os\nos.fork()",
        "import asyncio\nasyncio.create_subprocess_exec('x')",
        "from importlib import import_module\nimport_module('subprocess')",
        "import sys\nprint(sys.executable)",
        "from torch.utils.data import DataLoader",
        "import pty",
    ],
)
def test_a_place_that_starts_a_process_is_found(source: str) -> None:
    assert list(starters(source))


@pytest.mark.parametrize(
    "source",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import subprocess",
        "from concurrent.futures import ThreadPoolExecutor",
        "import os\nos.getpid()",
    ],
)
def test_what_starts_none_is_not_found(source: str) -> None:
    assert not list(starters(source))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("", []),
        (":", []),
        (".", []),
        ("lib", []),
        (":/one", ["/one"]),
        ("/one::/two:", ["/one", "/two"]),
        ("../x:/one:.", ["/one"]),
    ],
)
def test_only_absolute_entries_of_an_import_path_are_kept(
    value: str, kept: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = processes.environment({"PYTHONPATH": value})
    assert found.get("PYTHONPATH", "").split(os.pathsep) == (kept or [""])
    assert found["PYTHONSAFEPATH"] == "1"


def test_a_checkout_that_is_not_installed_stays_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert processes.import_folders("src") == [str(ROOT / "src")]
    monkeypatch.chdir(ROOT / "src")
    assert processes.import_folders("") == [str(ROOT / "src")]


def test_folders_that_variables_name_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"EXPUNGE_KEYS": "keys", "EXPUNGE_ANCHORS": "none", "XDG_CONFIG_HOME": "~/x", "TMPDIR": ""}
    made = processes.environment(given)
    assert made["EXPUNGE_KEYS"] == str(tmp_path / "keys")
    assert {name: made[name] for name in ("EXPUNGE_ANCHORS", "XDG_CONFIG_HOME", "TMPDIR")} == {
        name: given[name] for name in ("EXPUNGE_ANCHORS", "XDG_CONFIG_HOME", "TMPDIR")
    }


def plant(folder: Path, mark: Path, *names: str) -> None:
    """Put modules in a folder, each of which says that it ran and fails."""
    text = f"open({str(mark)!r}, 'a').write(__name__ + chr(10))\nraise ImportError(__name__)\n"
    for name in names:
        (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize("module", ["expunge", "expunge.cli.main"])
def test_the_command_as_a_module_imports_nothing_from_the_current_folder(module: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    plant(tmp_path, mark, "typing", "click", "random", "sitecustomize", "usercustomize")
    line = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, mark.exists()) == (0, False), done.stderr
    control = [sys.executable, "-c", "import click"]
    assert subprocess.run(control, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    assert mark.read_text() == "click\n"


def test_a_grandchild_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    mark, child = tmp_path / "mark", tmp_path / "child"
    child.mkdir()
    plant(tmp_path, mark, "click")
    line = "[sys.executable, '-c', 'import click']"
    (child / "parent_of.py").write_text(
        f"import subprocess, sys\nsys.exit(subprocess.run({line}).returncode)\n"
    )
    done = processes.run("parent_of", folder=tmp_path, paths=[child], capture_output=True)
    assert (done.returncode, mark.exists()) == (0, False), done.stderr
