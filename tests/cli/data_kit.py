# SPDX-License-Identifier: Apache-2.0
"""Helpers for tests of the commands ``data``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from expunge.cli.main import cli
from expunge.workspace import Workspace

SHOWN = ("train/s1_a", "train/s1_b", "train/s2_c", "val/s2_d")  # samples that show a subject


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "big")
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def result_of(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command with --json and return the one object that it prints."""
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    result: dict[str, Any] = json.loads(lines[0])
    return result


def content() -> list[object]:
    """Return every row of the catalog."""
    workspace = Workspace.open()
    names = [row["name"] for row in workspace.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [workspace.query(f"SELECT * FROM {name}") for name in sorted(names)]


def truncate_image(shop: Path) -> None:
    (shop / "images/train/s1_a.png").write_bytes(b"\x89PNG")
