# SPDX-License-Identifier: Apache-2.0
"""A million samples of 100,000 subjects, with digests given: bounded memory, no file opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import json, sys, time
from expunge.cli.main import cli
start = time.perf_counter()
try:
    cli.main(sys.argv[1:])
finally:
    # Not ru_maxrss: that is inherited from the test process across fork and exec.
    lines = open("/proc/self/status").read().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"peak_kib": peak, "seconds": time.perf_counter() - start}), file=sys.stderr)
"""


def add(folder: Path, rows: int) -> tuple[dict[str, object], dict[str, float]]:
    """Make a dataset that exists as lists alone, add it twice, and return what was said and measured."""
    with (
        open(folder / "train.txt", "w") as train,
        open(folder / "val.txt", "w") as val,
        open(folder / "sums", "w") as sums,
        open(folder / "subjects.csv", "w") as subjects,
    ):
        subjects.write("sample,subject,risk\n")
        for i in range(rows):
            path = f"images/part{i % 1000:03d}/picture_{i:07d}.jpg"
            (val if i % 50 == 0 else train).write(f"./{path}\n")
            sums.write(f"{i:064x}  {path}\n{i + rows:064x}  labels{path[6:-4]}.txt\n")
            subjects.write(f"{path},person_{i % (rows // 10):06d},0.25\n")
    (folder / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [face]\n")
    arguments = ["data", "add", "big", str(folder), "--subjects", str(folder / "subjects.csv")]
    arguments += ["--digests", str(folder / "sums"), "--workspace", str(folder), "--json"]
    subprocess.run(
        [sys.executable, "-m", "expunge.cli.main", "init", str(folder)], check=True, capture_output=True
    )
    said: list[dict[str, object]] = []
    measured: list[dict[str, float]] = []
    for _ in range(2):  # the second time nothing is new
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
        )
        said.append(json.loads(done.stdout))
        measured.append(json.loads(done.stderr.splitlines()[-1]))
        print(measured[-1])
    assert said[0] == said[1]
    return said[0], {key: max(one[key] for one in measured) for key in measured[0]}


def check(folder: Path, rows: int) -> dict[str, float]:
    said, measured = add(folder, rows)
    assert said["dataset"] == "big@1"
    assert said["samples"] == rows
    assert said["subjects"] == rows // 10
    assert said["splits"] == {"train": rows - rows // 50, "val": rows // 50}
    return measured


@pytest.mark.slow
def test_twenty_thousand(tmp_path: Path) -> None:
    assert check(tmp_path, 20_000)["peak_kib"] < 300 * 1024


@pytest.mark.slow
def test_a_million(tmp_path: Path) -> None:
    assert check(tmp_path, 1_000_000)["peak_kib"] < 2 * 1000 * 1000
