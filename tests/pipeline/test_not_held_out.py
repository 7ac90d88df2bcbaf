# SPDX-License-Identifier: Apache-2.0
"""Metrics of a dataset whose val split is its train split are marked as not held out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worlds
from proof import Story, old, once

from expunge.cli.erasure import _figure
from expunge.data.scan import scan
from expunge.models import training
from expunge.unlearning.partition import partition
from expunge.unlearning.selecting import Selected


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a workspace with a model trained on such a dataset, and a copy of it, adopted."""
    world = worlds.detection(tmp_path / "data", people=4, each=2)
    world.source.write_text(world.source.read_text().replace("images/val", "images/train"))
    story = Story(tmp_path, world, "detect", shards=1, slices=1, epochs=1)
    story.begin()
    copy = tmp_path / "elsewhere.pt"
    shutil.copyfile(story.workspace.root / story.newest().weights, copy)
    training.adopt(story.workspace, copy, "shop", "old")
    return story


def test_metrics_are_marked_as_not_held_out(story: Story) -> None:
    metrics = story.newest().metrics
    assert metrics is not None
    assert (metrics["split"], metrics["held_out"]) == ("train", False)
    assert metrics["images"] == sum(s.split == "train" for s in scan(story.world.source).samples)
    assert _figure(metrics).endswith("(not held out)")
    outcome = story.forget("p1", method="finetune", settings=once())
    erasable, adopted = (
        next(m for m in outcome["models"] if m["model"].startswith(n)) for n in ("m@", "old@")
    )
    assert erasable["metrics_after"]["held_out"] is False
    assert erasable["metrics_after"]["images"] < metrics["images"], "what is erased is in neither split"
    assert adopted["metrics_before"] == {"images": 0, "held_out": False}
    assert old(story).name == "old"


def test_copies_of_training_images_are_not_held_out(tmp_path: Path) -> None:
    world = worlds.detection(tmp_path / "data", people=4, each=2)
    shutil.copy(world.root / "images/train/p1/shot 0.png", world.root / "images/val/copy.png")
    story = Story(tmp_path, world, "detect", shards=1, slices=1, epochs=1)
    story.begin()
    metrics = story.newest().metrics
    assert metrics is not None
    assert "held_out" not in metrics, "four other images are"
    found = scan(world.source)
    parts = partition(
        found.samples, found.config, found.root, Selected(frozenset({"images/train/p2/shot 0.png"})), 0
    )
    assert not any("copy" in s.path for s in (*parts.guard, *parts.unseen))
