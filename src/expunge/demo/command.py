# SPDX-License-Identifier: Apache-2.0
"""Run the public command line in a child process and parse its JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from expunge import processes
from expunge.errors import ExpungeError

WORKSPACE = "workspace"


def run(folder: Path, *args: str) -> dict[str, Any]:
    """Return the result of ``expunge ARGS --json``, run in ``folder``, the parent of the workspace.

    Progress goes to the terminal.

    Raises:
        ExpungeError: If the command failed, with the command's error.
    """
    environ = {**processes.environment(), "EXPUNGE_WORKSPACE": os.path.abspath(folder / WORKSPACE)}
    done = processes.run(
        "expunge", *args, "--json", folder=folder, environ=environ, stdout=processes.PIPE, text=True
    )
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        result = {"error": f"`expunge {args[0]}` ended with exit code {done.returncode} and no result."}
    if "error" in result:
        raise ExpungeError(result["error"], result.get("reason", ""), result.get("next", ""))
    return result
