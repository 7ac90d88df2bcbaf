# SPDX-License-Identifier: Apache-2.0
"""Peak memory of every method over that of training (``python -m benchmarks memory``).

Each works in a process of its own, on the task, the data and the batch of the suite ``faces``. What counts is
the highest resident set while it works, less what was resident before: the libraries and the model are there
in any case. Forget and retain set each fill a batch, and a second class is there for methods that need one.
Weights are untrained, because memory does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from benchmarks.methods.faces import BATCH, FacesSuite
from benchmarks.methods.grid import length, needs
from benchmarks.methods.runner import RETRAIN, Silent
from expunge import processes
from expunge.errors import ExpungeError
from expunge.methods.base import Budget, all_methods
from expunge.tasks.protocol import Samples

ROOT = Path(__file__).resolve().parents[2]

RESULTS = Path(__file__).parent.parent / "results" / "methods" / "memory.json"
EPOCHS, AFFORDABLE, BUDGET = 2, 4.0, 100.0
GOAL = 2.0


def peak(work: Callable[[], object]) -> int:
    """Return the bytes by which the resident set grew at most during some work (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _part(data: Samples, start: int, stop: int) -> Samples:
    return Subset(data, range(start, stop))  # type: ignore[arg-type]


def measure(name: str, imgsz: int, quick: bool) -> dict[str, Any]:
    """Return the peak of one method, or of training."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        suite = FacesSuite(
            Path(folder), epochs=EPOCHS, imgsz=imgsz, scenes=2, slim=quick, names=("face", "other")
        )
        scenes = suite.everything("subject", 0)
        world = replace(
            suite.world("subject", 0),
            forget=_part(scenes, 0, BATCH),
            retain=_part(scenes, BATCH, len(scenes)),
        )
        # It also imports what a training imports; two scenes leave little behind in the allocator.
        start = suite.train(_part(scenes, 0, 2), 0).model
        if name == RETRAIN:
            return {"bytes": peak(lambda: suite.train(world.retain, 1))}
        method = all_methods()[name]
        given = {**needs(method, world, suite.task.clone(start), suite.batch), **length(method, AFFORDABLE)}
        budget = Budget(BUDGET * len(world.retain))

        def work() -> None:
            method.function(
                start, world.forget, world.retain, suite.task,
                generator=torch.Generator().manual_seed(0), budget=budget, progress=Silent(), **given,
            )  # fmt: skip

        trouble = ""

        def tried() -> None:
            nonlocal trouble
            try:
                work()
            except ExpungeError as error:
                trouble = error.what

        return {"bytes": peak(tried), "trouble": trouble}


def main() -> int:
    """Measure all, print them over training, and say which need more than twice as much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help="measure only this method, or 'retrain', and print JSON")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--quick", action="store_true", help="a model of half the width")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.imgsz, given.quick)))
        return 0
    found: dict[str, Any] = {}
    for name in dict.fromkeys([RETRAIN, *all_methods()]):
        words = ["--one", name, "--imgsz", str(given.imgsz), *(["--quick"] if given.quick else [])]
        done = processes.run(
            "benchmarks.methods.memory", *words, paths=[ROOT], capture_output=True, text=True
        )
        done.check_returncode()
        found[name] = json.loads(done.stdout.splitlines()[-1])
        found[name]["over_training"] = round(found[name]["bytes"] / found[RETRAIN]["bytes"], 2)
        print(
            f"{name:<14} {found[name]['bytes'] / 2**20:7.0f} MiB  {found[name]['over_training']:.2f}",
            flush=True,
        )
    about = {"imgsz": given.imgsz, "batch": BATCH, "quick": given.quick}
    given.out.write_text(json.dumps({"about": about, "methods": found}, indent=1) + "\n")
    over = [name for name, figures in found.items() if figures["over_training"] > GOAL]
    print(f"more than {GOAL:g} times training: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
