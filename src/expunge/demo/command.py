# SPDX-License-Identifier: Apache-2.0
"""Runs the public command line as a user would, and takes its JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError

WORKSPACE = "workspace"


def run(folder: Path, *args: str) -> dict[str, Any]:
    """Run ``expunge ARGS --json`` in ``folder``, the parent of the workspace; progress goes to the terminal.

    Raises:
        ExpungeError: The command failed; the error is its own.
    """
    command = [sys.executable, "-m", "expunge", *args, "--json"]
    environ = {**os.environ, "EXPUNGE_WORKSPACE": WORKSPACE}
    done = subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        result = {"error": f"`expunge {args[0]}` ended with exit code {done.returncode} and no result."}
    if "error" in result:
        raise ExpungeError(result["error"], result.get("reason", ""), result.get("next", ""))
    return result
