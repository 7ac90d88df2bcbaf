# SPDX-License-Identifier: Apache-2.0
"""Start child processes that never import code from the user's current folder.

The current folder may be an untrusted dataset. Every child therefore runs in a folder of this package with
``-P``, which keeps the current folder off the import path. PYTHONSAFEPATH does the same for its children.
All child processes of expunge are started here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

__all__ = ["DEVNULL", "PIPE", "command", "environment", "import_folders", "run", "start"]

PACKAGE_FOLDER = Path(__file__).resolve().parent  # default working folder of child processes
SAFE_PATH, IMPORT_PATH = "PYTHONSAFEPATH", "PYTHONPATH"
# Variables that hold a folder. Relative values are made absolute, since the child runs elsewhere.
FOLDER_VARIABLES = (
    "EXPUNGE_ANCHORS",
    "EXPUNGE_KEYS",
    "EXPUNGE_WORKSPACE",
    "HOME",
    "MPLCONFIGDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONUSERBASE",
    "TMPDIR",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "YOLO_CONFIG_DIR",
)
NOT_A_FOLDER = {"", "none"}


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module with the current folder off the import path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(base: Mapping[str, str] | None = None, paths: Sequence[Path] = ()) -> dict[str, str]:
    """Return the environment variables for a child process.

    Args:
        base: Variables to start from. Default: those of this process.
        paths: Trusted folders to add to the child's import path.
    """
    variables = dict(os.environ if base is None else base)
    import_path = [*map(str, paths), *import_folders(variables.pop(IMPORT_PATH, ""))]
    if import_path:
        variables[IMPORT_PATH] = os.pathsep.join(dict.fromkeys(import_path))
    for name in FOLDER_VARIABLES:
        if variables.get(name, "") not in NOT_A_FOLDER and not variables[name].startswith("~"):
            variables[name] = os.path.abspath(variables[name])
    return {**variables, SAFE_PATH: "1"}


def import_folders(value: str) -> list[str]:
    """Return the absolute entries of a PYTHONPATH value.

    Empty and relative entries depend on the current folder and are dropped. The entry that leads to this
    package is always kept.
    """
    here = str(PACKAGE_FOLDER.parent)
    entries = [entry for entry in value.split(os.pathsep) if value]
    kept = [e for e in entries if os.path.isabs(e)]
    if here not in kept and here in (os.path.abspath(e) for e in [*entries, ""]):
        kept.append(here)
    return kept


def start(
    module: str,
    *arguments: str,
    folder: Path = PACKAGE_FOLDER,
    environ: Mapping[str, str] | None = None,
    paths: Sequence[Path] = (),
    **options: Any,
) -> subprocess.Popen[Any]:
    """Start a module as a child process.

    Args:
        module: Name of the module.
        arguments: Command-line arguments. Paths must be absolute.
        folder: Working folder of the child. Must be a trusted folder.
        environ: Variables, before :func:`environment` makes them safe. Default: those of this process.
        paths: Trusted folders to add to the child's import path.
        options: Streams and other options of :class:`subprocess.Popen`.
    """
    variables = environment(environ, paths)
    return subprocess.Popen(
        command(module, *arguments), cwd=os.path.abspath(folder), env=variables, **options
    )


def run(
    module: str,
    *arguments: str,
    folder: Path = PACKAGE_FOLDER,
    environ: Mapping[str, str] | None = None,
    paths: Sequence[Path] = (),
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a module as a child process and wait until it ends. Arguments as for :func:`start`."""
    variables = environment(environ, paths)
    line = command(module, *arguments)
    return subprocess.run(line, cwd=os.path.abspath(folder), env=variables, check=False, **options)
