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
from methods.table import KNOWN

from expunge.cli.main import cli
from expunge.methods.base import Method, all_methods

ROOT = Path(__file__).resolve().parents[2]
METHODS = ROOT / "docs" / "methods"
SECTIONS = ("Rule", "Hyper-parameters", "Differences", "Known failures", "Reference")
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


def section(text: str, title: str) -> str:
    """Return what stands under a heading of the second level, up to the next one."""
    match = re.search(rf"^## {title}[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return match.group(1).strip() if match else ""


def gaps(method: Method, page: str, index: str) -> list[str]:
    """Return what the documents fail to say of a method."""
    settings = section(page, "Hyper-parameters")
    found = [f"no section '{title}'" for title in SECTIONS if not section(page, title)]
    found += [f"nothing on '{name}'" for name in method.hyperparameters if f"`{name}`" not in settings]
    row = next((line for line in index.splitlines() if f"]({method.name}.md)" in line), "")
    if not row:
        return [*found, "not in the index"]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    if cells[1] != ", ".join(method.goals):
        found.append(f"its goals in the index are {cells[1]}")
    if float(cells[2]) != method.cost:
        found.append(f"its cost in the index is {cells[2]}")
    return found


def test_every_command_is_documented_as_it_is() -> None:
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == reference(), "docs/commands.md is out of date: run `make docs`"


def test_commands_in_the_documents_exist() -> None:
    lines = [line for page in PAGES for line in spoken(page.read_text(encoding="utf-8"))]
    assert len(lines) >= 8
    assert {line: unknown(line) for line in lines if unknown(line)} == {}


def test_links_lead_somewhere() -> None:
    assert {p.name: found for p in PAGES if (found := dead_links(p, p.read_text(encoding="utf-8")))} == {}


def missing_tests(text: str) -> list[str]:
    """Return the test files that a page names and that are not there."""
    named = re.findall(r"`(tests/[^`]+)`", text)
    return [name for name in named if not (ROOT / name).is_file()]


def test_what_is_promised_is_tested() -> None:
    page = read(ROOT / "docs" / "security.md")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "tested in" not in line]
    assert len(rows) >= 20
    assert [row for row in rows if "`tests/" not in row.split("|")[2]] == []
    assert missing_tests(page) == []


def test_a_missing_test_is_found() -> None:
    assert missing_tests("`tests/house/test_docs.py`, `tests/nothing.py`") == ["tests/nothing.py"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("expunge forgett --subject s17", ["forgett"]), ("expunge train shop --shard 4", ["--shard"])],
)
def test_a_wrong_command_is_found(line: str, complaint: list[str]) -> None:
    assert spoken(f"x\n```sh\n{line}   # why\n```\n") == [line]
    assert unknown(line) == complaint


def test_a_dead_link_is_found() -> None:
    assert dead_links(ROOT / "README.md", "[a](docs/index.md#x) [b](docs/nothing.md)") == ["docs/nothing.md"]


def read(path: Path) -> str:
    """Return a page; an empty one where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize("name", sorted(all_methods()))
def test_every_method_has_a_page_and_is_in_the_index(name: str) -> None:
    page = read(METHODS / f"{name}.md")
    assert page, f"docs/methods/{name}.md is missing"
    assert gaps(all_methods()[name], page, read(METHODS / "index.md")) == []


@pytest.mark.parametrize("name", sorted({name for _, _, name in KNOWN}))
def test_known_failures_are_told(name: str) -> None:
    told = " ".join(section(read(METHODS / f"{name}.md"), "Known failures").split())
    reasons = {reason for (_, _, method), reason in KNOWN.items() if method == name}
    assert [reason for reason in reasons if reason not in told] == []


def test_an_incomplete_page_is_found() -> None:
    method = all_methods()["cf_k"]
    page = "## Rule\nx\n## Hyper-parameters\n`k` `lr` `epochs`\n## Differences\n## Reference\nx\n"
    found = gaps(method, page, "| [cf_k](cf_k.md) | class | 7 | x |")
    assert "no section 'Differences'" in found
    assert "no section 'Known failures'" in found
    assert "nothing on 'batch'" in found
    assert "its goals in the index are class" in found
    assert "its cost in the index is 7" in found
    assert "not in the index" in gaps(method, page, "")
