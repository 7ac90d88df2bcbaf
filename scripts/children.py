# SPDX-License-Identifier: Apache-2.0
"""The one place where these scripts start processes: in the project's folder, which is not imported from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

__all__ = ["DEVNULL", "PIPE", "ROOT", "STDOUT", "environment", "run", "start"]

ROOT = Path(__file__).resolve().parent.parent


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a child: no Python below it imports from its current folder."""
    made = dict(base)
    named = [entry for entry in made.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    if named:
        made["PYTHONPATH"] = os.pathsep.join(named)
    return {**made, "PYTHONSAFEPATH": "1"}


def run(
    command: Sequence[str], environ: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a command and wait for its end."""
    variables = environment(os.environ if environ is None else environ)
    return subprocess.run(command, cwd=ROOT, env=variables, check=False, **options)


def start(
    command: Sequence[str], environ: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start a command."""
    variables = environment(os.environ if environ is None else environ)
    return subprocess.Popen(command, cwd=ROOT, env=variables, **options)
