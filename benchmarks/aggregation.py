# SPDX-License-Identifier: Apache-2.0
"""Other exact ways to make one model of the same shards: ``python -m benchmarks aggregation``.

All of them are functions of the shards' weights and of public data alone, so all would be exact, and all cost
the same to erase from. What has a strength is chosen on validation and reported on test.

- ``average``: what the project does, equal weights, batch-norm statistics pooled.
- ``statistics``: the average, with batch-norm statistics counted again over the public training images
  (after REPAIR, Jordan et al. 2022, arXiv:2211.08403, there on training data).
- ``extrapolate``: common start + λ · (average − common start), λ of :data:`STRENGTHS` (task arithmetic,
  Ilharco et al. 2022, arXiv:2212.04089, equation of section 3.2 for the sum of tasks).
- ``both``: the latter with statistics counted again.
- ``ensemble``: the shards' answers together, at S times the price of an answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.configs import SUITES, Config, Suite
from benchmarks.frontier import data, known
from benchmarks.grid import AGGREGATED, SEEDS
from benchmarks.harness import Cache, Trained, append, score, split, train, workplace
from expunge.data.types import Scan
from expunge.exact.merge import average
from expunge.tasks.base import get_task
from expunge.tasks.yolo_samples import YoloSamples

State = dict[str, torch.Tensor]
STRENGTHS = (1.25, 1.5, 2.0, 3.0)
BATCH = 32


def extrapolated(start: State, mean: State, strength: float) -> State:
    """Return start + strength · (mean − start) of what was learnt; statistics and counters of the mean."""
    result = {}
    for name, value in mean.items():
        counted = not value.is_floating_point() or name.rsplit(".", 1)[-1].startswith("running_")
        moved = start[name].double() + strength * (value.double() - start[name].double())
        result[name] = value if counted else moved.to(value.dtype)
    return result


def with_statistics(suite: Suite, trained: Trained, found: Scan, state: State) -> State:
    """Return a state whose batch-norm statistics are those of the public training images."""
    module = get_task(suite.task).build(trained.plan)
    module.load_state_dict(state)
    module.eval()
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    public = [s for s in split(found, "train") if s.public]
    samples = YoloSamples(found.root, found.config, public, trained.plan.names, suite.imgsz)
    with torch.no_grad():
        for first in range(0, len(samples), BATCH):
            images = [samples[i]["img"] for i in range(first, min(first + BATCH, len(samples)))]
            pictures = torch.stack(images)
            module(pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures)
    return dict(module.state_dict())


def candidates(suite: Suite, trained: Trained, found: Scan) -> dict[str, dict[str, Sequence[State]]]:
    """Return for every way its variants by name, each a list of states (several: an ensemble).

    Args:
        suite: The task.
        trained: An ensemble: its states are those of the shards.
        found: The data.
    """
    start, mean = trained.public_state, average(trained.states)
    moved = {f"{s:g}": extrapolated(start, mean, s) for s in STRENGTHS}
    anew = {name: with_statistics(suite, trained, found, state) for name, state in moved.items()}
    return {
        "average": {"": [mean]},
        "statistics": {"": [with_statistics(suite, trained, found, mean)]},
        "extrapolate": {name: [state] for name, state in moved.items()},
        "both": {name: [state] for name, state in anew.items()},
        "ensemble": {"": trained.states},
    }


def measure(suite: Suite, config: Config, work: Path, out: Path, seed: int, cache: Cache) -> None:
    """Train a configuration, put its shards together in every way, and write a line for each."""
    if known(out, config.name, seed):
        return
    found = data(suite.task, config.public, work, config.risk)
    trained = train(suite, replace(config, aggregate="ensemble"), found, seed, work, cache)

    def scored(states: Sequence[State], part: str) -> float:
        return score(suite, trained.plan, states, found, part)

    lines: list[dict[str, Any]] = []
    for how, variants in candidates(suite, trained, found).items():
        judged = {name: scored(states, "val") for name, states in variants.items()}
        best = max(judged, key=lambda name: judged[name])
        lines.append(
            {
                "kind": "aggregation", "name": config.name, "seed": seed, "how": how, "chosen": best,
                "val": judged, "test": {name: scored(states, "test") for name, states in variants.items()},
                "public_test": scored([trained.public_state], "test"),
            }
        )  # fmt: skip
    for line in lines:
        append(out, line)
        print(line, flush=True)


def main() -> None:
    """Measure what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=sorted(SUITES), default="detect")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS["more"])
    parser.add_argument("--out", type=Path, help="JSON lines; what it holds is not run again")
    parser.add_argument("--work", type=Path, help="folder with the frontier's data and checkpoints")
    arguments = parser.parse_args()
    suite = SUITES[arguments.task]
    out = arguments.out or Path(__file__).parent / "results" / f"aggregation_{suite.task}.jsonl"
    with workplace(arguments.work) as (work, cache):
        for seed in arguments.seeds:
            for config in AGGREGATED[suite.task]:
                measure(suite, config, work, out, seed, cache)


if __name__ == "__main__":
    main()
