# SPDX-License-Identifier: Apache-2.0
"""Suite ``bias``: ``python -m benchmarks bias --experiment NAME``."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.bias.report import write
from benchmarks.harness import append, records

RESULTS = Path(__file__).parent.parent / "results" / "bias"
EXPERIMENTS = ("colours", "exact", "labels", "boxes", "box_labels")


def main() -> None:
    """Run every row of an experiment that its file of results does not hold yet; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", choices=EXPERIMENTS, required=True)
    parser.add_argument("--seeds", type=int, help="number of seeds, from 0 [as the experiment has it]")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name it matches")
    parser.add_argument("--quick", action="store_true", help="one seed, less of everything")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="folder for lines and table; what is there stays")
    given = parser.parse_args()
    torch.set_num_threads(1)
    experiment = import_module(f"benchmarks.bias.{given.experiment}")
    folder = given.out or (Path("runs") / "bench" / "bias" if given.quick else RESULTS)
    file = folder / f"{given.experiment}.jsonl"
    done = {(line["seed"], line["who"]) for line in records(file)}
    for seed in range(1 if given.quick else given.seeds or experiment.SEEDS):
        for who, ask in experiment.run(seed, quick=given.quick, device=given.device):
            if (seed, who) not in done and re.search(
                given.rows, who
            ):  # a run that was interrupted goes on with the next row
                append(file, {"seed": seed, "who": who, **ask()})
                print(records(file)[-1], flush=True)
    print(f"Written: {write(given.experiment, experiment, records(file), folder)}")


if __name__ == "__main__":
    main()
