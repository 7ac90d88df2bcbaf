# SPDX-License-Identifier: Apache-2.0
"""What an audit costs in CPU time, in units of one training: by level, by probe, by how references are made.

    python -m benchmarks audit_cost --out benchmarks/results/audit_cost.json

Process CPU time of one thread, the least of three (64 models one by one: once), on a small classifier
(digits) and a tiny YOLO26 detector. References of the detector cost as many trainings as there are of them;
its level ``full`` is computed: the time of ``standard`` for 4 models, times 21 / 4, since all
models are scored alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.audits.detectors import Detectors
from benchmarks.audits.worlds import Digits, Sizes
from expunge.audits.audit_model import Audit
from expunge.audits.unlearning_data import UnlearningData
from expunge.tasks.protocol import Samples
from expunge.tasks.vectorised import retrain_many

SIZES: dict[str, Sizes] = {
    "digits": Sizes(forget=100, retain=400, unseen=300, guard=200, epochs=40, lr=3e-3, batch=64, noise=0.4),
    "detectors": Sizes(forget=40, retain=80, unseen=80, guard=20, epochs=60, lr=5e-3, batch=16, noise=0.5),
}
WORLDS: dict[str, Any] = {"digits": Digits, "detectors": Detectors}
REPEATS, MANY = 3, 64
REFERENCES = {"quick": 0, "standard": 2, "full": 19}
PROBES = ("relearn", "linear", "int8", "onnx")
QUICK_EPOCHS = 2


def cpu(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the least process CPU seconds of some repeats."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def alone(world: Any, part: Samples, count: int, epochs: int) -> list[nn.Module]:
    """Train models one after the other."""
    sizes = world.sizes
    start = world.start if isinstance(world, Digits) else world.opened.module
    how = {"lr": sizes.lr, "batch": sizes.batch} if isinstance(world, Digits) else {}
    return [
        world.task.retrain(
            start,
            part,
            epochs=epochs,
            generator=torch.Generator().manual_seed(i),
            images=lambda n: None,
            **how,
        )
        for i in range(count)
    ]


def together(world: Digits, part: Samples, count: int, epochs: int) -> list[nn.Module]:
    """Train small models all at once."""
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    return retrain_many(
        world.task, world.start, part, epochs=epochs, generators=generators, images=lambda n: None,
        lr=world.sizes.lr, batch=world.sizes.batch,
    )  # fmt: skip


def seconds_of(world: Any, models: Sequence[nn.Module], level: str, probes: Sequence[str] = ()) -> float:
    """Return the CPU seconds of an audit with these models: original, candidate, references."""
    original, candidate, *references = models
    material = UnlearningData(world.forget, world.retain, world.guard, world.unseen)

    def work() -> None:
        audit = Audit(world.task, world.task.clone(original), references, material, level, probes=probes)
        audit.verdict(world.task.clone(candidate))

    return cpu(work)


def measure(name: str, quick: bool) -> dict[str, Any]:
    """Return the figures of one world."""
    sizes, small = SIZES[name], name == "digits"
    epochs = QUICK_EPOCHS if quick else sizes.epochs
    with WORLDS[name](1, sizes) as world:
        training = cpu(lambda: alone(world, world.both, 1, epochs))
        kept = 19 if small else 2
        candidate, *others = (together if small else alone)(world, world.retain, 1 + kept, epochs)
        models = [*alone(world, world.both, 1, epochs), candidate]
        levels: dict[str, Any] = {}
        for level, count in REFERENCES.items():
            measured = small or count <= len(others)
            if measured:
                audit = seconds_of(world, [*models, *others[:count]], level)
            else:
                audit = levels["standard"]["audit_seconds"] * (2 + count) / 4
            making = count * training
            if small and count:
                making = cpu(partial(together, world, world.retain, count, epochs))
            levels[level] = {
                "references": count,
                "measured": measured,
                "references_seconds": round(making, 3),
                "audit_seconds": round(audit, 3),
                "trainings": round((making + audit) / training, 2),
                "trainings_without_references": round(audit / training, 2),
            }
        plain = levels["quick"]["audit_seconds"]
        probes = {p: round(seconds_of(world, models, "quick", [p]) - plain, 3) for p in PROBES}
        found: dict[str, Any] = {
            "sizes": {**vars(sizes), "epochs": epochs},
            "training_seconds": round(training, 3),
            "levels": levels,
            "probes_seconds_more_at_quick": probes,
            "probes_trainings_more_at_quick": {p: round(s / training, 2) for p, s in probes.items()},
        }
        if small:
            count = 8 if quick else MANY
            one_by_one = cpu(lambda: alone(world, world.retain, count, epochs), 1)
            at_once = cpu(lambda: together(world, world.retain, count, epochs))
            found["references_at_once"] = {
                "models": count,
                "one_by_one_seconds": round(one_by_one, 2),
                "at_once_seconds": round(at_once, 2),
                "ratio": round(one_by_one / at_once, 2),
                "at_once_in_trainings": round(at_once * count / one_by_one, 2),
            }
    return found


def main() -> None:
    """Measure, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--world", choices=sorted(WORLDS), action="append")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {name: measure(name, arguments.quick) for name in arguments.world or WORLDS}
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
