# SPDX-License-Identifier: Apache-2.0
"""No modules import each other in a circle, type hints and imports inside functions included.

The layers are a contract in ``pyproject.toml`` that ``make lint`` checks.
"""

from __future__ import annotations

import graphlib
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]


def circle(*packages: str) -> list[str]:
    """Return the modules of one circle of imports, or nothing."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.syspath_prepend(str(ROOT))
    return monkeypatch


@pytest.mark.usefixtures("importable")
def test_no_circle_in_the_product_and_its_benchmarks() -> None:
    assert circle("expunge", "benchmarks") == []


@pytest.mark.parametrize("hidden", ["if TYPE_CHECKING:\n    ", "def function():\n    "])
def test_a_hidden_circle_is_found(tmp_path: Path, importable: pytest.MonkeyPatch, hidden: str) -> None:
    """Negative control."""
    package = tmp_path / "ring"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from ring import two\n")
    (package / "two.py").write_text(f"from typing import TYPE_CHECKING\n\n{hidden}from ring import one\n")
    importable.syspath_prepend(str(tmp_path))
    assert set(circle("ring")) == {"ring.one", "ring.two"}
    sys.modules.pop("ring", None)
