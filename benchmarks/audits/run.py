# SPDX-License-Identifier: Apache-2.0
"""Runs trials of the error-rate experiment: ``python -m benchmarks audit_errors --world digits``.

Each trial is a line of JSON, written when it is done; a file's trials are not run again. Trials below
EXPLORED fixed sizes, strengths and thresholds; the reported ones start there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.audits.detectors import Detectors
from benchmarks.audits.report import summary
from benchmarks.audits.trial import run
from benchmarks.audits.worlds import Digits, Sizes
from benchmarks.harness import append, records

RESULTS = Path(__file__).parent.parent / "results" / "audits"
EXPLORED = 10_000
# Fixed by the power curve of trials below EXPLORED (see benchmarks/README.md).
SIZES = {
    ("digits", "standard"): (4, Sizes(forget=200, retain=400, unseen=600, guard=200, epochs=60, lr=3e-3,
                                      batch=64, noise=0.2)),
    ("digits", "full"): (39, Sizes(forget=100, retain=400, unseen=300, guard=200, epochs=60, lr=3e-3,
                                   batch=64, noise=0.2)),
    ("detectors", "standard"): (2, Sizes(forget=160, retain=50, unseen=300, guard=20, epochs=30, lr=5e-3,
                                         batch=16, noise=0.667)),
}  # fmt: skip
WORLDS: dict[str, Any] = {"digits": Digits, "detectors": Detectors}


def main() -> int:
    """Run what is missing, print the table, and judge it by the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=sorted(WORLDS), default="digits")
    parser.add_argument("--level", choices=("standard", "full"), default="standard")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--first", type=int, default=EXPLORED, help="number of the first trial")
    parser.add_argument("--forget", type=int, help="another size of the forget set, for the power curve")
    parser.add_argument("--batch", type=int, help="another batch, for the power curve")
    parser.add_argument("--out", type=Path, help="JSON lines; what it holds is not run again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    references, sizes = SIZES[arguments.world, arguments.level]
    other = {k: v for k in ("forget", "batch") if (v := getattr(arguments, k)) is not None}
    curve = replace(sizes, **other) != sizes
    sizes = replace(sizes, **other)
    if curve and arguments.first >= EXPLORED:
        raise SystemExit("A power curve is made of explored trials: give --first below 10000.")
    name = f"{arguments.world}-{arguments.level}" + ("" if arguments.first >= EXPLORED else "-explored")
    out = arguments.out or RESULTS / f"{name}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    known = [(r["trial"], r["sizes"]) for r in records(out)]
    for trial in range(arguments.first, arguments.first + arguments.trials):
        if (trial, vars(sizes)) in known:
            continue
        with WORLDS[arguments.world](trial, sizes) as world:
            found = run(world, arguments.level, references, trial)
        append(out, {"trial": trial, "world": arguments.world, "sizes": vars(sizes), **found})
        print(trial, {k: v["verdict"] for k, v in found["candidates"].items()}, flush=True)
    text, missed = summary([r for r in records(out) if r["sizes"] == vars(sizes)])
    print(text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
