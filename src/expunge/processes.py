# SPDX-License-Identifier: Apache-2.0
"""The one place that starts processes: none of them imports from the folder where a command was called.

That folder may be a data set from a stranger. A child runs with ``-P``, which leaves the current folder off
the import path, in a folder of ours, and hands the same on to its own children by PYTHONSAFEPATH.
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

OURS = Path(__file__).resolve().parent  # the current folder of children that need no other
SAFE_PATH, IMPORT_PATH = "PYTHONSAFEPATH", "PYTHONPATH"
# Variables that name a folder. A relative one means another folder once the current folder changes.
FOLDERS = (
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
NO_FOLDER = {"", "none"}


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module without the current folder on its import path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(base: Mapping[str, str] | None = None, paths: Sequence[Path] = ()) -> dict[str, str]:
    """Return the variables of a child.

    Args:
        base: Variables to start from; by default those of this process.
        paths: Folders of ours to add to the child's import path.
    """
    made = dict(os.environ if base is None else base)
    named = [*map(str, paths), *import_folders(made.pop(IMPORT_PATH, ""))]
    if named:
        made[IMPORT_PATH] = os.pathsep.join(dict.fromkeys(named))
    for name in FOLDERS:
        if made.get(name, "") not in NO_FOLDER and not made[name].startswith("~"):
            made[name] = os.path.abspath(made[name])
    return {**made, SAFE_PATH: "1"}


def import_folders(value: str) -> list[str]:
    """Return what is kept of PYTHONPATH: absolute entries, which somebody chose.

    Empty and relative ones mean whatever the current folder is. The folder of this package stays in any case.
    """
    here = str(OURS.parent)
    entries = [entry for entry in value.split(os.pathsep) if value]
    kept = [e for e in entries if os.path.isabs(e)]
    if here not in kept and here in (os.path.abspath(e) for e in [*entries, ""]):
        kept.append(here)
    return kept


def start(
    module: str,
    *arguments: str,
    folder: Path = OURS,
    environ: Mapping[str, str] | None = None,
    paths: Sequence[Path] = (),
    **options: Any,
) -> subprocess.Popen[Any]:
    """Start a module as a process.

    Args:
        module: Its name.
        arguments: Its arguments; paths among them must be absolute.
        folder: Its current folder, which must be one of ours.
        environ: Its variables before :func:`environment` makes them safe; by default this process's.
        paths: Folders of ours to add to its import path.
        options: Streams and the like, as for :class:`subprocess.Popen`.
    """
    variables = environment(environ, paths)
    return subprocess.Popen(
        command(module, *arguments), cwd=os.path.abspath(folder), env=variables, **options
    )


def run(
    module: str,
    *arguments: str,
    folder: Path = OURS,
    environ: Mapping[str, str] | None = None,
    paths: Sequence[Path] = (),
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a module as a process and wait for its end; arguments as for :func:`start`."""
    variables = environment(environ, paths)
    line = command(module, *arguments)
    return subprocess.run(line, cwd=os.path.abspath(folder), env=variables, check=False, **options)
