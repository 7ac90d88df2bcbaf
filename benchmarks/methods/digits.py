# SPDX-License-Identifier: Apache-2.0
"""Suite ``digits``: scikit-learn's digits by invented people (``python -m benchmarks digits``).

1,797 pictures of 8x8 pixels are dealt to 18 people, each with a look: a shift, a contrast and a fixed pattern
of noise. Ten people give 40 pictures each for training; their other pictures are for testing. Eight people
are never trained on. A small convolutional network with batch norm learns all 400 by heart, without
augmentation. Where corrupted labels are to be forgotten, a tenth of every person's pictures is mislabelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.methods.command import main
from benchmarks.methods.worlds import ModuleSuite, World, pick
from expunge.tasks.protocol import Samples

PEOPLE, TRAINED, STRANGERS = 18, 10, 4
EACH, GUARD_EACH = 40, 15
CORRUPTED, FORGOTTEN = 0.1, 0.1
PIXELS = 8
EPOCHS, QUICK_EPOCHS = 60, 30


def network() -> nn.Module:
    """Return an untrained network for pictures (B, 1, 8, 8)."""
    layers: list[nn.Module] = []
    for channels, more in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(channels, more, 3, 2, 1, bias=False), nn.BatchNorm2d(more), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def looks(generator: torch.Generator) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Return a function from a picture (1, 8, 8) and a person to how that person's camera sees it."""
    shifts = torch.randint(-1, 2, (PEOPLE, 2), generator=generator).tolist()
    contrast = 0.8 + 0.4 * torch.rand(PEOPLE, generator=generator)
    noise = 0.1 * torch.randn(PEOPLE, 1, PIXELS, PIXELS, generator=generator)

    def look(picture: torch.Tensor, person: int) -> torch.Tensor:
        return picture.roll(shifts[person], (1, 2)) * contrast[person] + noise[person]

    return look


def parts(seed: int, noisy: bool) -> tuple[Samples, Callable[[str], World]]:
    """Return what is trained on, and a function from a goal to what leaves and what judges.

    Args:
        seed: Draws the split, the looks, and what leaves.
        noisy: Whether a tenth of what is trained on is mislabelled.
    """
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(seed)
    flat, digits = load_digits(return_X_y=True)
    pictures = torch.tensor(flat, dtype=torch.float32).reshape(-1, 1, PIXELS, PIXELS) / 16
    truth, look = torch.tensor(digits), looks(generator)
    order = torch.randperm(len(truth), generator=generator).tolist()
    wrong = (truth + torch.randint(1, 10, truth.shape, generator=generator)) % 10
    people = [order[person::PEOPLE] for person in range(PEOPLE)]

    def sample(index: int, person: int, corrupted: bool = False) -> Any:
        return look(pictures[index], person), (wrong if corrupted else truth)[index]

    held: dict[bool, dict[str, list[Any]]] = {c: {"guard": [], "test": []} for c in (False, True)}
    train, person_of, corrupted = [], [], []
    for person in range(TRAINED):
        for place, index in enumerate(people[person]):
            if place < EACH:
                corrupted.append(noisy and place < CORRUPTED * EACH)
                person_of.append(person)
                train.append(sample(index, person, corrupted[-1]))
                continue
            for bad, found in held.items():
                found["guard" if place < EACH + GUARD_EACH else "test"].append(sample(index, person, bad))
    strangers = [[sample(i, person) for i in people[person]] for person in range(TRAINED, PEOPLE)]
    drawn = set(torch.randperm(len(train), generator=generator)[: round(FORGOTTEN * len(train))].tolist())
    label = int(torch.randint(10, (1,), generator=generator))

    def leaves(goal: str, place: int) -> bool:
        return {
            "random": place in drawn,
            "subject": person_of[place] == 0,
            "class": int(train[place][1]) == label,
            "corrupted": corrupted[place],
        }[goal]

    def world(goal: str) -> World:
        gone = [i for i in range(len(train)) if leaves(goal, i)]
        stays = [i for i in range(len(train)) if not leaves(goal, i)]
        test, guard = held[False]["test"], held[False]["guard"]
        unseen, calibration, classes = test, guard, ()
        if goal == "subject":
            unseen = [s for person in strangers[:STRANGERS] for s in person]
            calibration = [s for person in strangers[STRANGERS:] for s in person]
        elif goal == "corrupted":
            unseen, calibration = held[True]["test"], held[True]["guard"]
        elif goal == "class":
            unseen, calibration = ([s for s in data if int(s[1]) == label] for data in (test, guard))
            test, classes = [s for s in test if int(s[1]) != label], (label,)
        return World(goal, pick(train, gone), pick(train, stays), test, unseen, calibration, classes)

    return train, world


def suite(*, quick: bool = False, device: str = "cpu", **_: Any) -> ModuleSuite:
    """Methods on scikit-learn's digits."""
    epochs = QUICK_EPOCHS if quick else EPOCHS
    return ModuleSuite(
        "digits",
        "scikit-learn's digits by ten invented people: 400 pictures (for `corrupted` a tenth of them "
        f"mislabelled), learnt by heart in {epochs} epochs by a small network with batch norm",
        ("random", "subject", "class", "corrupted"),
        epochs,
        network,
        {"lr": 5e-3, "batch": 50},
        parts,
        device=device,
    )


if __name__ == "__main__":
    main(suite, references=10, seeds=10)
