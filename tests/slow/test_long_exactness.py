# SPDX-License-Identifier: Apache-2.0
"""The long proof: 20 requests in sequence, every published model repeated from nothing. Run with `make slow`.

For each task, shards and slices in {1, 3}. Among the forgotten: the only sample of a class, a box-only label
among polygons, group photos, byte-identical copies, subjects erased already, last batches' remainders.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import worlds
from proof import Story, train_inline

REQUESTS = 20
WORLDS = {"detect": worlds.detection, "classify": worlds.classification}
SETTINGS = {
    "detect": {"mosaic": "0.5", "mixup": "0.2", "public_epochs": "1", "polish_epochs": "0"},
    "classify": {"public_epochs": "1", "dropout": "0.1", "polish_epochs": "1"},
}


def steps(world: worlds.World, rng: random.Random) -> list[dict[str, Any]]:
    """Draw requests: mostly single subjects, some several, samples, repetitions, deferrals, restarts."""
    people = sorted({s for who in world.subjects.values() for s in who})
    rng.shuffle(people)
    singles = sorted(p for p, who in world.subjects.items() if len(who) == 1)
    rng.shuffle(singles)
    gone: list[str] = []
    drawn: list[dict[str, Any]] = []
    while len(drawn) < REQUESTS:
        kind = rng.choice(("one", "one", "two", "sample", "sample", "again"))
        step: dict[str, Any] = {"subjects": (), "samples": (), "defer": rng.random() < 0.3}
        if kind == "again" and gone:
            step["subjects"] = (rng.choice(gone),)
        elif kind == "sample" or len(people) < 3:
            step["samples"] = (singles.pop(),)
        else:
            count = 2 if kind == "two" else 1
            step["subjects"] = tuple(people.pop() for _ in range(count))
            gone += step["subjects"]
        step["restart"] = rng.random() < 0.3
        drawn.append(step)
    return drawn


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detect", "classify"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("slices", [1, 3])
def test_twenty_requests(
    task: str, shards: int, slices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_inline(monkeypatch)
    world = WORLDS[task](tmp_path / "data", people=14, each=3, public=3)
    story = Story(tmp_path, world, task, SETTINGS[task], shards, slices, 2)
    first = story.begin()
    fresh = tmp_path / "fresh"
    assert first.digest == story.from_nothing(first.label, fresh)
    equal = compared = requests = 0
    digests = {first.digest}
    for step in steps(world, random.Random(f"{task} {shards} {slices}")):
        if step["restart"]:
            story.reopen()
        outcome = story.forget(*step["subjects"], samples=step["samples"], defer=step["defer"])
        requests += 1
        for entry in outcome["models"]:
            for published in (entry["interim"], entry if entry["digest"] else None):
                if published:
                    compared += 1
                    equal += published["digest"] == story.from_nothing(published["model"], fresh)
                    digests.add(published["digest"])
    story.repair()
    last = story.newest()
    assert last.digest == story.from_nothing(last.label, fresh)
    assert last.digest != story.from_nothing(last.label, fresh, unfiltered=True), "negative control"
    print(
        f"\n{task} S={shards} R={slices}: {requests} requests, {compared + 2} models repeated from nothing, "
        f"{compared - equal} mismatches, {len(digests)} different digests, negative control differs"
    )
    assert equal == compared
    assert requests == REQUESTS
