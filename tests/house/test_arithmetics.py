# SPDX-License-Identifier: Apache-2.0
"""The runs under several arithmetics cover what they say, and nothing passes by exception."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    for name in ("children", "pip_settings", "setup", "arithmetics"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


def test_every_kernel_and_number_of_threads_is_run(script: ModuleType) -> None:
    aten, onednn, threads = (set(values) for values in zip(*script.ARITHMETICS, strict=True))
    assert (aten, onednn, threads) == ({"default", "avx2", "native"}, {"AVX2", "native"}, {"1", "2"})


def test_native_is_what_the_libraries_choose(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    made = script.environment(("native", "AVX2", "2"))
    assert "ATEN_CPU_CAPABILITY" not in made
    assert (made["ONEDNN_MAX_CPU_ISA"], made["OMP_NUM_THREADS"]) == ("AVX2", "2")


@pytest.mark.parametrize(
    ("counts", "clean"),
    [
        ('tests="9" failures="0" errors="0" skipped="0"', True),
        ('tests="9" failures="1" errors="0" skipped="0"', False),
        ('tests="9" failures="0" errors="1" skipped="0"', False),
        ('tests="9" failures="0" errors="0" skipped="1"', False),
        ('tests="0" failures="0" errors="0" skipped="0"', False),
    ],
)
def test_only_a_run_in_which_all_pass_is_clean(
    script: ModuleType, tmp_path: Path, counts: str, clean: bool
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite {counts}/></testsuites>")
    assert script.Outcome(*script.read(report), 0, 1.0).clean == clean
    assert not script.Outcome(*script.read(report), 1, 1.0).clean
    assert script.read(tmp_path / "none") == (0, 0, 0)
