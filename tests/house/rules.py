# SPDX-License-Identifier: Apache-2.0
"""The rules of the house as functions from a folder to complaints, so that each can be shown to complain."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

SOURCE = {".py", ".j2", ".html", ".css", ".js", ".sh", ".mako"}
APACHE, AGPL = "Apache-2.0", "AGPL-3.0-or-later"
VENDOR, VENDORED = "src/expunge/web/static/vendor/", "0BSD"  # unchanged files of others, with their licence
HEADER_LINES = 5
LONG = 400

# Written so that this file does not break the rules itself.
MACHINE_PATHS = re.compile(
    r"(?<![\w.}/])/(?:wor[k]|roo[t]|far[m]|hom[e]/\w+|User[s]/\w+|tm[p]/\w+)/|\b[A-Z]:\\\\?User[s]"
)
INDEX_HOSTS = re.compile(
    r"pypi\.(?:org|io)|python[h]osted|download\.pytorch|registry\.npmjs|deb\.debian|anaconda\.org"
)
UNFINISHED = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])\b")


def tracked(root: Path) -> list[Path]:
    """Return the files of the project: all that git does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [root / name for name in names if name and (root / name).is_file()]


def texts(files: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the files that are text."""
    for file in files:
        try:
            yield file, file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def licence_of(text: str) -> str | None:
    """Return the licence that the header of a source file names."""
    head = "\n".join(text.splitlines()[:HEADER_LINES])
    match = re.search(r"SPDX-License-Identifier: ([\w.+-]+)", head)
    return match.group(1) if match else None


def imports_ultralytics(source: str) -> bool:
    """Return whether Python source imports Ultralytics, at any depth, also by name."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
        if any(name.split(".")[0] == "ultralytics" for name in names):
            return True
    return False


def bad_licences(root: Path, files: list[Path]) -> list[str]:
    """Complain about source without a known header, and Ultralytics outside of ``tasks/`` and the AGPL."""
    found = []
    for file, text in texts([f for f in files if f.suffix in SOURCE]):
        name = file.relative_to(root).as_posix()
        licence = licence_of(text)
        in_tasks = name.startswith("src/expunge/tasks/")
        uses = file.suffix == ".py" and imports_ultralytics(text)
        known = {APACHE, AGPL} | ({VENDORED} if VENDOR in name else set())
        if text.strip() and licence not in known:
            found.append(f"{name}: no SPDX header")
        if uses and licence != AGPL:
            found.append(f"{name}: imports Ultralytics, and is not {AGPL}")
        if name.startswith("src/") and uses and not in_tasks:
            found.append(f"{name}: imports Ultralytics outside of tasks/")
        if name.startswith("src/") and licence == AGPL and not in_tasks:
            found.append(f"{name}: {AGPL} outside of tasks/")
    return found


def bad_lines(root: Path, files: list[Path], pattern: re.Pattern[str]) -> list[str]:
    """Complain about every line in which ``pattern`` is found."""
    return [
        f"{file.relative_to(root)}:{number}: {line.strip()[:80]}"
        for file, text in texts(files)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def bad_lock(text: str) -> list[str]:
    """Complain about a requirement without a hash or a version, and about addresses."""
    found = [line for line in text.splitlines() if "://" in line or line.startswith("-")]
    blocks = re.split(
        r"\n(?=[A-Za-z0-9])", "\n".join(x for x in text.splitlines() if not x.lstrip().startswith("#"))
    )
    found += [
        block.splitlines()[0]
        for block in blocks
        if block.strip() and ("--hash=sha256:" not in block or "==" not in block.splitlines()[0])
    ]
    return found


def too_long(root: Path, files: list[Path]) -> list[str]:
    """Complain about source files of more than ``LONG`` lines."""
    return [
        f"{file.relative_to(root)}: {count} lines"
        for file, text in texts([f for f in files if f.suffix == ".py"])
        if (count := text.count("\n")) > LONG
    ]
