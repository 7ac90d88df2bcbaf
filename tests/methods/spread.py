# SPDX-License-Identifier: Apache-2.0
"""Measures the spread of figures over worlds: ``cd tests && python -m methods.spread`` writes spread.json.

It takes 40 seconds of CPU time for a world of each kind. The worlds' seeds differ from those of the tests.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from statistics import mean, stdev
from typing import Any

import torch
from methods.bounds import FILE, SEEDS
from methods.judging import residual
from methods.runs import MANY, run
from methods.table import STRENGTH
from methods.worlds import World, memorised, one_class

from expunge.methods.base import all_methods

FIRST, COUNT = 200, 16
assert not set(SEEDS) & set(range(FIRST, FIRST + COUNT))


def figures(world: World, name: str) -> dict[str, float]:
    """Return the figures of a method in a world."""
    method = all_methods()[name]
    epochs = world.epochs if "epochs" in method.needs else MANY
    model = run(world, name, power=STRENGTH.get((world.name, name), 0), epochs=epochs).model
    assert model is not None
    before, after = world.figures(world.original), world.figures(model)
    found = {"lost": before["retain"] - after["retain"], "forget": after["forget"]}
    return found | ({"left": residual(world, model)} if world.name == "digits" else {})


def summary(rows: list[tuple[str, dict[str, float]]], worlds: int) -> dict[str, Any]:
    """Return mean and standard deviation of every figure, by world and method."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, found in rows:
        for figure, value in found.items():
            values[name][figure].append(value)
    figures_ = {
        name: {figure: [round(mean(x), 4), round(stdev(x), 4)] for figure, x in sorted(found.items())}
        for name, found in sorted(values.items())
    }
    return {"processor": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}", "worlds": worlds} | {
        "figures": figures_
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print and write the spread."""
    torch.set_num_threads(1)
    rows = []
    for seed in range(FIRST, FIRST + COUNT):
        for maker, goal in ((memorised, "sample"), (one_class, "class")):
            world = maker(seed)
            for name, method in sorted(all_methods().items()):
                if goal in method.goals:
                    rows.append((f"{world.name}/{name}", figures(world, name)))
                    print(seed, *rows[-1], flush=True)
    FILE.write_text(json.dumps(summary(rows, COUNT), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
