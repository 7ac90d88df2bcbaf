# SPDX-License-Identifier: Apache-2.0
"""Accuracy of erasable training against the price of an erasure: ``python -m benchmarks.frontier``.

Every result is one line of JSON, written as soon as it is there; what a file already holds is not run again.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import digits_data, faces_data
from benchmarks.configs import LIGHT, SUITES, Config, Suite, make_plan
from benchmarks.grid import BASELINES, GRIDS, SEEDS
from benchmarks.harness import Cache, append, erasures, expected, records, score, train, workplace
from expunge.data.types import Scan

RISKY_REQUESTS = 0.8  # share of requests that come from people marked as likely to leave
MATCHED = {
    "nbs": 16, "optimizer": "AdamW", "lr0": 0.002, "lrf": 0.02, "momentum": 0.9, "weight_decay": 5e-4,
    "warmup_epochs": 1.0, "warmup_bias_lr": 0.0,
}  # fmt: skip
ORDINARY: dict[str, dict[str, dict[str, Any]]] = {
    "detect": {"default": MATCHED, "erasable's": {**MATCHED, "mosaic": 0.0, "scale": 0.2}},
    "classify": {"default": MATCHED, "erasable's": {**MATCHED, **LIGHT}},
}


def data(task: str, share: str, work: Path, risk: float = 0.0) -> Scan:
    """Return the task's data with a share of public samples."""
    if task == "classify":
        found = digits_data.prepare(work / "digits", share)
    else:
        found = faces_data.prepare(work / share, share)
    return with_risk(found, risk) if risk else found


def with_risk(found: Scan, share: float) -> Scan:
    """Mark the last ``share`` of the private people, by name, as likely to leave (risk 1, others 0)."""
    private = sorted({p for s in found.samples if s.split == "train" and not s.public for p in s.subjects})
    risky = set(private[len(private) - round(share * len(private)) :])
    return replace(found, risks={person: float(person in risky) for person in private})


def ordinary(suite: Suite, work: Path, out: Path, seed: int, variant: str, epochs: int, run: int) -> None:
    """Train with stock Ultralytics on everything, with one augmentation and epoch budget.

    Once for every run, for another machine computes other weights, and other seconds.
    """
    from expunge.tasks.baseline import train_plain
    from expunge.tasks.weights import state_of

    name = f"ordinary, {epochs} epochs, {variant} augmentation"
    if known(out, name, seed, run):
        return
    found = data(suite.task, "few", work)
    plan = make_plan(suite, Config("ordinary"), found.config.names, seed)
    folder = work / "ordinary"
    shutil.rmtree(folder, ignore_errors=True)
    result = train_plain(
        found.root / "data.yaml" if suite.task == "detect" else found.root,
        folder,
        weights=suite.weights,
        epochs=epochs,
        imgsz=suite.imgsz,
        batch=suite.batch,
        seed=seed,
        threads=1,
        overrides=ORDINARY[suite.task][variant],
    )
    state = state_of(Path(result["weights"]))
    record = {
        "kind": "ordinary", "name": name, "seed": seed, "run": run, "epochs": epochs, "variant": variant,
        "passes": result["images"] * epochs, "cpu_seconds": result["cpu_seconds"],
        "test": score(suite, plan, [state], found, "test"),
        "val": score(suite, plan, [state], found, "val"),
    }  # fmt: skip
    append(out, record)
    print(record, flush=True)


def erasable(
    suite: Suite, config: Config, work: Path, out: Path, seed: int, run: int, cache: Cache | None
) -> None:
    """Train one configuration, measure its accuracy and what forgetting one person costs."""
    if known(out, config.name, seed, run):
        return
    found = data(suite.task, config.public, work, config.risk)
    trained = train(suite, config, found, seed, work, cache)
    costs = erasures(trained, found)
    weights = dict.fromkeys(costs, 1.0)
    if config.risk:
        risky = [p for p in costs if found.risks.get(p)]
        share = {True: RISKY_REQUESTS / len(risky), False: (1 - RISKY_REQUESTS) / (len(costs) - len(risky))}
        weights = {p: share[p in risky] for p in costs}
    passes, seconds = expected(costs, weights)
    record = {
        "kind": "erasable", "name": config.name, "seed": seed, "run": run, "config": config.as_json(),
        "test": score(suite, trained.plan, trained.states, found, "test"),
        "val": score(suite, trained.plan, trained.states, found, "val"),
        "public_test": score(suite, trained.plan, [trained.public_state], found, "test"),
        "public_val": score(suite, trained.plan, [trained.public_state], found, "val"),
        "passes": trained.graph.passes, "cpu_seconds": round(trained.total, 3),
        "erase_passes": round(passes, 1), "erase_cpu_seconds": round(seconds, 3),
        "erase_worst_passes": max(p for p, _ in costs.values()),
        "checkpoints": len(trained.graph.nodes), "checkpoint_bytes": trained.size_bytes,
    }  # fmt: skip
    append(out, record)
    print({k: v for k, v in record.items() if k not in ("config", "kind")}, flush=True)


def known(out: Path, name: str, seed: int, run: int | None = None) -> bool:
    """Whether a result is there already, of a certain run or of any."""
    return any(
        r["name"] == name and r["seed"] == seed and run in (None, r.get("run", 1)) for r in records(out)
    )


def main() -> None:
    """Run the grid of a task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=sorted(SUITES), default="detect")
    parser.add_argument("--grid", choices=("declared", "more", "combined"), default="declared")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the grid's")
    parser.add_argument("--out", type=Path, help="JSON lines; what it holds is not run again")
    parser.add_argument(
        "--work", type=Path, help="folder for data and checkpoints (default: a temporary one)"
    )
    parser.add_argument("--only", default="", help="run only what has this in its name")
    parser.add_argument(
        "--run", type=int, default=1, help="number of this run: one machine, one state of the code"
    )
    arguments = parser.parse_args()
    suite = SUITES[arguments.task]
    out = arguments.out or Path(__file__).parent / "results" / f"frontier_{suite.task}.jsonl"
    with workplace(arguments.work) as (work, cache):
        for seed in (
            arguments.seeds or SEEDS[arguments.grid]
        ):  # seed by seed, so that a part of the results is balanced
            for variant, epochs, seeds in BASELINES[suite.task].get(arguments.grid, []):
                if not arguments.only and seed in seeds:
                    ordinary(suite, work, out, seed, variant, epochs, arguments.run)
            for config in GRIDS[suite.task].get(arguments.grid, []):
                if arguments.only in config.name:
                    erasable(suite, config, work, out, seed, arguments.run, cache)


if __name__ == "__main__":
    main()
