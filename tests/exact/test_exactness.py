# SPDX-License-Identifier: Apache-2.0
"""Every published model equals a training from scratch on a folder without the forgotten samples.

``tests/slow/test_long_exactness.py`` covers more configurations and requests.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import worlds
from proof import Story

WORLDS = {"detect": worlds.detection, "classify": worlds.classification}
AUGMENTED = {
    "detect": {"mosaic": "0.6", "mixup": "0.3", "close_mosaic": "1", "public_epochs": "1"},
    "classify": {"public_epochs": "1", "dropout": "0.2"},
}


def check(story: Story, outcome: dict[str, object], folder: Path) -> int:
    """Compare an outcome's interim and final models with a training from scratch; return their number."""
    compared = 0
    for entry in outcome["models"]:  # type: ignore[attr-defined]
        for published in (entry["interim"], entry if entry["digest"] else None):
            if published:
                assert published["digest"] == story.from_nothing(published["model"], folder)
                compared += 1
    return compared


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("task", ["detect", pytest.param("classify", marks=pytest.mark.slow)])
def test_a_sequence_of_requests(task: str, tmp_path: Path) -> None:
    """Forget a subject, then a group photo of two, a deferred request with the next one, and one sample."""
    world = WORLDS[task](tmp_path / "data")
    story = Story(tmp_path, world, task, AUGMENTED[task])
    first = story.begin()
    fresh = tmp_path / "fresh"
    assert first.digest == story.from_nothing(first.label, fresh)

    one = story.forget("p1")
    assert check(story, one, fresh) >= 1
    final = one["models"][0]["model"]
    assert one["models"][0]["digest"] != story.from_nothing(final, fresh, unfiltered=True), "negative control"

    story.reopen()
    waiting = story.forget("p3", "p0", defer=True)
    assert waiting["models"][0]["digest"] is None
    assert waiting["state"] == "running"
    compared = check(story, waiting, fresh)
    single = next(path for path, who in sorted(world.subjects.items()) if who == ("p2",))
    last = story.forget(samples=[single])
    assert check(story, last, fresh) + compared >= 2
    assert story.newest().guarantee == "exact"


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("task", ["detect", "classify"])
def test_confluence(task: str, tmp_path: Path) -> None:
    """Permuted, batched and deferred requests with the same end give the digest of the plan's own run."""
    digests = []
    for number, steps in enumerate(
        ([("p1",), ("p4",)], [("p4",), ("p1",)], [("p1", "p4")], [("p4", "defer"), ("p1", "defer")])
    ):
        folder = tmp_path / str(number)
        story = Story(folder, WORLDS[task](folder / "data"), task, shards=3, slices=1)
        story.begin()
        for step in steps:
            subjects = [s for s in step if s != "defer"]
            story.forget(*subjects, defer="defer" in step)
        story.repair()
        digests.append(story.newest().digest)
    without = WORLDS[task](tmp_path / "never" / "data", without=("p1", "p4"))
    never = Story(tmp_path / "never", without, task, shards=3, slices=1).begin()
    assert set(digests) == {never.digest}


@pytest.mark.usefixtures("inline")
def test_one_shard_and_one_slice(tmp_path: Path) -> None:
    """Erase from a plan with one shard and one slice."""
    story = Story(tmp_path, worlds.detection(tmp_path / "data", public=0), "detect", shards=1, slices=1)
    story.begin()
    outcome = story.forget("p5")
    assert outcome["models"][0]["interim"] is None, "no checkpoint is free of p5"
    assert check(story, outcome, tmp_path / "fresh") == 1


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes, as used by the command, give the same bytes as training inside the test's process."""
    from proof import train_inline

    digests = []
    for name in ("apart", "inline"):
        folder = tmp_path / name
        story = Story(folder, worlds.detection(folder / "data"), "detect", AUGMENTED["detect"], shards=2)
        if name == "inline":
            train_inline(monkeypatch)
        digests.append(story.begin().digest)
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("inline")
def test_one_pixel_changes_the_digest(tmp_path: Path) -> None:
    """Every retained image matters."""
    from PIL import Image

    digests = []
    for name in ("as it is", "changed"):
        world = worlds.detection(tmp_path / name / "data")
        if name == "changed":
            file = world.root / "images/train/p4/shot 1.png"
            image = Image.open(file)
            image.putpixel((5, 5), (1, 2, 3))
            image.save(file)
        digests.append(Story(tmp_path / name, world, "detect").begin().digest)
    assert digests[0] != digests[1]
