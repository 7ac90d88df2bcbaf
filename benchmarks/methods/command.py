# SPDX-License-Identifier: Apache-2.0
"""The command line that all suites of methods share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods.runner import Bench
from benchmarks.methods.tables import write
from benchmarks.methods.worlds import Suite

RESULTS = Path(__file__).parent.parent / "results" / "methods"
QUICK = ("neggrad_plus", "random_label", "ssd", "delete")
BUDGET = 0.05


def main(make: Callable[..., Suite], *, references: int, seeds: int, needs_data: bool = False) -> None:
    """Run a suite and write its tables.

    Args:
        make: Returns the suite; it is given the other arguments by name.
        references: Retrained models for every seed and goal, unless the command says otherwise.
        seeds: How many are reported, likewise.
        needs_data: Whether the suite reads a folder of the user's.
    """
    parser = argparse.ArgumentParser(description=make.__doc__)
    parser.add_argument("--seeds", type=int, default=seeds, help="number of reported seeds, from 0")
    parser.add_argument("--references", type=int, default=references, help="for every seed and goal")
    parser.add_argument("--budget", type=float, default=BUDGET, help="of a method, in units of a retrain")
    parser.add_argument("--only", action="append", default=[], metavar="METHOD", help="may be repeated")
    parser.add_argument("--goal", action="append", default=[], metavar="GOAL", help="may be repeated")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="four methods, one seed, 3 references")
    parser.add_argument(
        "--data", type=Path, required=needs_data, help="folder of the data, where it is needed"
    )
    parser.add_argument("--out", type=Path, help="folder for lines, tables and plot; what is there stays")
    given = parser.parse_args()
    torch.set_num_threads(1)
    suite = make(**{k: getattr(given, k) for k in ("data", "device", "quick")})
    wrong = set(given.goal) - set(suite.goals)
    if wrong:
        parser.error(f"{suite.name} has no goal '{sorted(wrong)[0]}', but {', '.join(suite.goals)}")
    settings: dict[str, Any] = {"only": tuple(given.only), "references": given.references}
    number, folder = given.seeds, given.out or RESULTS
    if given.quick:
        settings = {"only": tuple(given.only) or QUICK, "references": 3, "tuning_seeds": (101,)}
        number, folder = 1, given.out or Path("runs") / "bench"
    if given.goal:
        suite.goals = tuple(given.goal)
    name = f"methods_{suite.name}" + ("" if given.budget == BUDGET else f"_{given.budget:g}")
    bench = Bench(
        suite, folder / f"methods_{suite.name}.jsonl", budget=given.budget, batch=suite.batch, **settings
    )
    bench.run(range(number))
    write(suite, bench.lines, given.budget, folder, name)
    print(f"Written: {folder / name}.md, .csv, .png")
