#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the whole suite under several arithmetics of this machine; further arguments go to pytest.

What is learnt differs from processor to processor, and a test that judges it must be true on all of them.
Prints a table, and fails on any failure, unexpected pass or skip.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import children
import setup

VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")
NATIVE = "native"
# Every value of each variable, and every pair of kernels with one and with two threads.
ARITHMETICS = (
    (NATIVE, NATIVE, "1"),
    ("default", "AVX2", "1"),
    ("avx2", "AVX2", "2"),
    ("default", NATIVE, "2"),
)
SUITE = (
    "-m",
    "pytest",
    "-n",
    "auto",
    "--dist",
    "loadfile",
    "--no-loadscope-reorder",
    "-q",
    "--no-header",
    "--tb=short",
)


@dataclass(frozen=True)
class Outcome:
    """What a run of the suite came to."""

    tests: int
    failed: int
    skipped: int
    code: int
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether every test ran and passed."""
        return self.tests > 0 and (self.failed, self.skipped, self.code) == (0, 0, 0)


def environment(values: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of a run; ``native`` leaves the choice to the libraries."""
    chosen = {k: v for k, v in zip(VARIABLES, values, strict=True) if v != NATIVE}
    kept = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    return {**kept, **chosen, "PYTHONPATH": str(children.ROOT)}


def run(values: tuple[str, ...], arguments: list[str]) -> Outcome:
    """Run the suite once."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(setup.PYTHON), *SUITE, f"--junitxml={report}", *arguments]
        code = children.run(command, environment(values)).returncode
        counts = read(report)
    return Outcome(*counts, code, time.monotonic() - began)


def read(report: Path) -> tuple[int, int, int]:
    """Return how many tests ran, failed and were skipped (or failed as expected)."""
    if not report.is_file():
        return 0, 0, 0
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))

    def total(*names: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites for name in names)

    return total("tests"), total("failures", "errors"), total("skipped")


def processor() -> str:
    """Return this machine's processor and what torch makes of it."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    found = children.run([str(setup.PYTHON), "-c", code], stdout=children.PIPE, text=True).stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = os.uname().machine
    return f"{name}, {os.cpu_count()} cores, native is {found}"


def main() -> int:
    """Run all, print the table."""
    outcomes = [(values, run(values, sys.argv[1:])) for values in ARITHMETICS]
    print(f"\n{processor()}")
    print(f"{VARIABLES[0]:<20} {VARIABLES[1]:<19} {VARIABLES[2]:<16} {'passed':>7} failed skipped seconds")
    for values, done in outcomes:
        passed = done.tests - done.failed - done.skipped
        print(
            f"{values[0]:<20} {values[1]:<19} {values[2]:<16} {passed:>7} {done.failed:>6} {done.skipped:>7}"
            f" {done.seconds:>7.0f}{'' if done.clean else '  NOT CLEAN'}"
        )
    return 0 if all(done.clean for _, done in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
