# SPDX-License-Identifier: Apache-2.0
"""Pipes, devices, circular links and deep nesting are input errors of every command."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from expunge.cli.main import cli

DEEP = 100_000
TIMEOUT_SECONDS = 300  # then a command that waits for a pipe is interrupted
SPECIAL = ("pipe", "loop", "/dev/zero")
TABLES = (*SPECIAL, "folder")
JSON = (*SPECIAL, "deep.json", "objects.json", "number.json")
CASES = [
    *(("data", "add", "x", file) for file in ("pipe.yaml", "loop.yaml", "/dev/zero", "loop", "pipe")),
    *(("data", "add", "x", file) for file in ("deep.yaml", "bomb.yaml", "number.yaml", "blocks.yaml")),
    ("data", "add", "x", "lists.yaml"),
    *(("data", "add", "x", "d/data.yaml", "--subjects", file) for file in (*TABLES, "field.csv")),
    *(("data", "add", "x", "d/data.yaml", "--digests", file) for file in TABLES),
    *(("data", "add", "x", "d/data.yaml", "--public", file) for file in SPECIAL),
    *(("data", "duplicates", "d", "--decide", file) for file in TABLES),
    *(("train", "d", "--name", "m", "--plan", file) for file in JSON),
    *(("train", "d", "--name", "m", "--weights", f"{file}.yaml") for file in ("pipe", "loop", "deep")),
    *(("train", "d", "--name", "m", "--weights", f"{file}.pt") for file in ("pipe", "loop", "deep")),
    *(("adopt", file, "--data", "d", "--name", "m") for file in (*TABLES, "deep.json")),
    *(("status", file) for file in (*TABLES, "deep.pt")),
    *(("verify", file) for file in JSON),
    *(("verify", "deep.json", option, file) for option in ("--public-key", "--log", "--tree-head")
      for file in SPECIAL),
    *(("forget", "--from", file, "--dry-run") for file in TABLES),
    *(("keys", "rotate", "--key", file) for file in SPECIAL),
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the current folder: a workspace with a dataset ``d`` and hostile files of every kind."""
    folder, before = tmp_path_factory.mktemp("hostile"), os.getcwd()
    os.chdir(folder)
    for i, split in enumerate(("train", "val")):
        image = folder / "d" / "images" / split / "a.png"
        image.parent.mkdir(parents=True)
        Image.fromarray(np.full((12, 12, 3), 50 * i, np.uint8)).save(image)
        label = folder / "d" / "labels" / split / "a.txt"
        label.parent.mkdir(parents=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "d" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    for name in ("pipe", "pipe.yaml", "pipe.pt"):
        os.mkfifo(name)
    for name in ("loop", "loop.yaml", "loop.pt"):
        os.symlink(name, name)
    (folder / "folder").mkdir()
    (folder / "deep.json").write_text("[" * DEEP + "]" * DEEP)
    (folder / "objects.json").write_text('{"a":' * DEEP + "1" + "}" * DEEP)
    (folder / "number.json").write_text('{"task": ' + "9" * 10_000 + "}")
    (folder / "deep.yaml").write_text("[" * DEEP)
    (folder / "deep.pt").write_text("[" * DEEP)
    (folder / "blocks.yaml").write_text("- " * DEEP + "1")
    (folder / "number.yaml").write_text("train: d/images/train\nval: d/images/val\nnc: " + "9" * 10_000)
    nine = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else 'x'] * 9)}]\n" for i in range(12))
    (folder / "bomb.yaml").write_text(f"train: d/images/train\nval: d/images/val\n{nine}names: *b11\n")
    (folder / "lists.yaml").write_text("train: pipe\nval: d/images/val\nnames: [a]\n")
    (folder / "field.csv").write_text('sample,subject\n"' + "x" * 200_000 + '",s\n')
    for arguments in (("init", "."), ("data", "add", "d", "d/data.yaml")):
        assert CliRunner().invoke(cli, arguments).exit_code == 0
    yield folder
    os.chdir(before)


@pytest.fixture(autouse=True)
def timeout() -> Iterator[None]:
    """Interrupt a command that does not end."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(TIMEOUT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_hostile_files_are_input_errors(hostile_folder: Path, arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 2, done.output
    error: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not error["error"].startswith("Unexpected"), error
    assert len(error["error"]) + len(error["reason"]) < 1000, "no message repeats what it read"
