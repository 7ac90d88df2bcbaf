# SPDX-License-Identifier: Apache-2.0
"""The documents agree with the command line and with each other."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from expunge.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def reference() -> str:
    """Return the reference from a process of its own: click keeps what earlier tests made of its commands."""
    script = ROOT / "scripts" / "commands.py"
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout


def spoken(page: str) -> list[str]:
    """Return the ``expunge …`` lines of a page's shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0] for block in blocks for line in block.splitlines()]
    return [line.strip() for line in lines if re.match(r"\s*(\.venv/bin/)?expunge ", line)]


def unknown(line: str) -> list[str]:
    """Return what in a command the command line does not know."""
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        name = words.pop(0) if words else ""
        found = command.get_command(click.Context(command), name)
        if found is None:
            return [name]
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    return [word for word in words if word.startswith("--") and word not in known]


def dead_links(page: Path, text: str) -> list[str]:
    """Return the links of a page to files that are not there."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_every_command_is_documented_as_it_is() -> None:
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == reference(), "docs/commands.md is out of date: run `make docs`"


def test_commands_in_the_documents_exist() -> None:
    lines = [line for page in PAGES for line in spoken(page.read_text(encoding="utf-8"))]
    assert len(lines) >= 8
    assert {line: unknown(line) for line in lines if unknown(line)} == {}


def test_links_lead_somewhere() -> None:
    assert {p.name: found for p in PAGES if (found := dead_links(p, p.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("expunge forgett --subject s17", ["forgett"]), ("expunge train shop --shard 4", ["--shard"])],
)
def test_a_wrong_command_is_found(line: str, complaint: list[str]) -> None:
    assert spoken(f"x\n```sh\n{line}   # why\n```\n") == [line]
    assert unknown(line) == complaint


def test_a_dead_link_is_found() -> None:
    assert dead_links(ROOT / "README.md", "[a](docs/index.md#x) [b](docs/nothing.md)") == ["docs/nothing.md"]
