# SPDX-License-Identifier: Apache-2.0
"""The house in order: licences, no traces of a machine or an index, a lock with hashes, short files."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> ModuleType:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(f"expunge_house_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


rules = load(ROOT / "tests" / "house" / "rules.py")


@pytest.fixture(scope="module")
def files() -> list[Path]:
    found: list[Path] = rules.tracked(ROOT)
    assert ROOT / "pyproject.toml" in found
    return found


def test_licences(files: list[Path]) -> None:
    assert rules.bad_licences(ROOT, files) == []


def test_no_path_of_a_machine(files: list[Path]) -> None:
    assert rules.bad_lines(ROOT, files, rules.MACHINE_PATHS) == []


def test_no_address_of_a_package_index(files: list[Path]) -> None:
    assert rules.bad_lines(ROOT, files, rules.INDEX_HOSTS) == []


def test_nothing_unfinished(files: list[Path]) -> None:
    assert rules.bad_lines(ROOT, [f for f in files if f.suffix == ".py"], rules.UNFINISHED) == []


def test_files_of_readable_size(files: list[Path]) -> None:
    assert rules.too_long(ROOT, files) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.uv.txt"])
def test_lock_has_hashes_and_no_address(name: str) -> None:
    assert rules.bad_lock((ROOT / name).read_text(encoding="utf-8")) == []


def test_lock_holds_what_the_package_pins() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(
        r'^ +"([\w-]+==[\w.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(pins) >= 3
    assert [pin for pin in pins if not re.search(rf"^{re.escape(pin)}(?=[ \\;])", lock, re.MULTILINE)] == []


def test_licence_texts_are_whole() -> None:
    assert "END OF TERMS AND CONDITIONS" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    agpl = (ROOT / "LICENSES" / "AGPL-3.0-or-later.txt").read_text(encoding="utf-8")
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in agpl
    assert "END OF TERMS AND CONDITIONS" in agpl


# Each rule finds what is planted for it.

APACHE = "# SPDX-License-Identifier: Apache-2.0\n"
AGPL = "# SPDX-License-Identifier: AGPL-3.0-or-later\n"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("src/expunge/x.py", "x = 1\n", "no SPDX header"),
        ("scripts/x.sh", "true\n", "no SPDX header"),
        ("src/expunge/x.js", "// SPDX-License-Identifier: 0BSD\n", "no SPDX header"),
        ("src/expunge/data/x.py", AGPL + "import ultralytics\n", "outside of tasks/"),
        (
            "src/expunge/data/x.py",
            AGPL + "def f():\n    from ultralytics.nn import tasks\n",
            "outside of tasks/",
        ),
        ("src/expunge/data/x.py", AGPL + "x = 1\n", "AGPL-3.0-or-later outside of tasks/"),
        ("src/expunge/tasks/x.py", APACHE + "from ultralytics import YOLO\n", "is not AGPL"),
        (
            "tests/x.py",
            APACHE + "import importlib\nimportlib.import_module('ultralytics.cfg')\n",
            "is not AGPL",
        ),
    ],
)
def test_a_wrong_licence_is_found(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert any(complaint in line for line in rules.bad_licences(tmp_path, [file]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("src/expunge/tasks/x.py", AGPL + "from ultralytics import YOLO\n"),
        ("src/expunge/x.py", APACHE + "from importlib.util import find_spec\nfind_spec('ultralytics')\n"),
        ("tests/x.py", AGPL + "import ultralytics\n"),
        ("src/expunge/web/static/vendor/x.js", "// SPDX-License-Identifier: 0BSD\n"),
    ],
)
def test_a_right_licence_is_taken(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert rules.bad_licences(tmp_path, [file]) == []


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("MACHINE_PATHS", "data = '/" + "work/data'"),
        ("MACHINE_PATHS", "data = '/" + "home/ann/data'"),
        ("MACHINE_PATHS", "data = '/" + "root/x'"),
        ("MACHINE_PATHS", "cd /" + "tmp/abc/x"),
        ("INDEX_HOSTS", "https://" + "pypi" + ".org/simple"),
        ("INDEX_HOSTS", "https://files.python" + "hosted.org/x"),
        ("UNFINISHED", "x = 1  # TO" + "DO: later"),
    ],
)
def test_a_bad_line_is_found(tmp_path: Path, rule: str, line: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(f"first = 1\n{line}\n")
    assert rules.bad_lines(tmp_path, [file], getattr(rules, rule)) == [f"x.py:2: {line.strip()}"]


def test_relative_paths_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    inner = ("src", "work", "x"), ("OUT", "root", "x"), (".venv", "bin", "python"), ("{base}", "work", "x")
    file.write_text("".join(f"a = '{'/'.join(parts)}'\n" for parts in inner))
    assert rules.bad_lines(tmp_path, [file], rules.MACHINE_PATHS) == []


@pytest.mark.parametrize(
    "text",
    [
        "--index-url https://example.test/simple\na==1 \\\n    --hash=sha256:00\n",
        "a==1\nb==2 \\\n    --hash=sha256:00\n",
        "a>=1 \\\n    --hash=sha256:00\n",
        "a @ https://example.test/a.whl \\\n    --hash=sha256:00\n",
    ],
)
def test_a_bad_lock_is_found(text: str) -> None:
    assert rules.bad_lock(text) != []


def test_a_long_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("x = 1\n" * 401)
    assert rules.too_long(tmp_path, [tmp_path / "x.py"]) == ["x.py: 401 lines"]
