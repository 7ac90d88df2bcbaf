# SPDX-License-Identifier: Apache-2.0
"""Tunes the strength of each method in the small worlds: ``cd tests && python -m methods.strength``.

The worlds' seeds differ from those of the tests; each method has eight runs.
"""

from __future__ import annotations

import sys
from statistics import mean

import torch
from methods.bounds import DROP, PRESENT
from methods.judging import residual
from methods.runs import MANY, run
from methods.worlds import World, memorised, one_class

from expunge.methods.base import all_methods

TUNING_SEEDS, POWERS = (101, 102), range(4)


def strongest(worlds: list[World], name: str, by_class: bool) -> tuple[int, str]:
    """Return the power at which a method is best, among those that keep half of the retain metric's bound.

    The best is the closest to the reference; for a class, the strongest that removes it.
    """
    found = []
    for power in POWERS:
        drops, far = [], []
        for world in worlds:
            epochs = world.epochs if "epochs" in all_methods()[name].needs else MANY
            model = run(world, name, power=power, epochs=epochs).model
            assert model is not None
            after = world.figures(model)
            drops.append(world.figures(world.original)["retain"] - after["retain"])
            far.append(after["forget"] if by_class else abs(residual(world, model)))
        left = max(mean(far), PRESENT) if by_class else mean(far)
        found.append((mean(drops) > DROP / 2, left, -power if by_class else power, mean(drops), mean(far)))
        if all_methods()[name].strength is None:
            break
    _, _, power, drop, far_off = min(found)
    return abs(power), f"{far_off:.2f}, retain metric lower by {drop:.3f}"


def main() -> None:
    """Print the table; names of methods restrict it."""
    torch.set_num_threads(1)
    for maker, by_class in ((memorised, False), (one_class, True)):
        worlds = [maker(seed) for seed in TUNING_SEEDS]
        for name, method in sorted(all_methods().items()):
            goal = "class" if by_class else "sample"
            if goal in method.goals and (len(sys.argv) == 1 or name in sys.argv[1:]):
                power, note = strongest(worlds, name, by_class)
                print(f'    ("{worlds[0].name}", "{name}"): {power},  # {note}', flush=True)


if __name__ == "__main__":
    main()
