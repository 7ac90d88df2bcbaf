# SPDX-License-Identifier: Apache-2.0
"""Suite ``bias``: ``python -m benchmarks bias --experiment colours|labels|boxes``."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.bias.report import write
from benchmarks.harness import append, records

RESULTS = Path(__file__).parent.parent / "results" / "bias"
EXPERIMENTS = ("colours", "labels", "boxes")


def main() -> None:
    """Run an experiment for every seed that its file of results does not hold yet; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", choices=EXPERIMENTS, required=True)
    parser.add_argument("--seeds", type=int, help="number of seeds, from 0 [as the experiment has it]")
    parser.add_argument("--quick", action="store_true", help="one seed, less of everything")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="folder for lines and table; what is there stays")
    given = parser.parse_args()
    torch.set_num_threads(1)
    experiment = import_module(f"benchmarks.bias.{given.experiment}")
    folder = given.out or (Path("runs") / "bench" / "bias" if given.quick else RESULTS)
    file = folder / f"{given.experiment}.jsonl"
    done = {line["seed"] for line in records(file)}
    for seed in range(1 if given.quick else given.seeds or experiment.SEEDS):
        if seed not in done:
            lines = []
            for line in experiment.run(seed, quick=given.quick, device=given.device):
                lines.append({"seed": seed, **line})
                print(lines[-1], flush=True)
            for line in lines:  # a seed that was interrupted is run again as a whole
                append(file, line)
    print(f"Written: {write(given.experiment, experiment, records(file), folder)}")


if __name__ == "__main__":
    main()
