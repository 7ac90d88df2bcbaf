# SPDX-License-Identifier: Apache-2.0
"""No command that starts processes lets them import from the current folder or from a data set."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import worlds
from proof import Story, quiet

from expunge.errors import ExpungeError
from expunge.evidence.tensors import digest_apart, digest_of
from expunge.evidence.verify import Means, verify
from expunge.exact.model import ErasableModel
from expunge.pipeline import Ask
from expunge.queue import intake
from expunge.steps.reference_training import ReferenceJob, train_one, train_side_by_side
from expunge.tasks.baseline import train_plain
from expunge.web import jobs, supervisor

# What children import late or early, from the standard library and from elsewhere; names of the start-up too.
MODULES = ("random", "colorsys", "sitecustomize", "usercustomize", "cv2", "yaml", "json", "tempfile", "types")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which planted modules write; the current folder and the data folder hold them."""
    mark, folder = tmp_path / "mark", tmp_path / "here"
    for place in (folder, tmp_path / "data"):
        plant(place, mark)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ":")  # as where a shell appends to a variable that is not set
    return mark


def plant(folder: Path, mark: Path) -> None:
    text = f"import sys\nopen({str(mark)!r}, 'a').write(__name__ + chr(10))\nsys.exit(9)\n"
    (folder / "ultralytics").mkdir(parents=True, exist_ok=True)
    (folder / "ultralytics" / "__init__.py").write_text(text)
    for name in MODULES:
        (folder / f"{name}.py").write_text(text)


def test_a_planted_module_runs_where_a_child_is_started_without_care(mark: Path) -> None:
    subprocess.run([sys.executable, "-c", "import colorsys"], check=False)
    assert mark.exists()


@pytest.fixture
def story(tmp_path: Path, mark: Path) -> Story:
    """A data set of the stranger."""
    return Story(tmp_path, worlds.detection(tmp_path / "data"), "detect", shards=1, slices=1, epochs=1)


def test_training_readers_and_references(story: Story, mark: Path, tmp_path: Path) -> None:
    published = story.begin()
    weights = story.workspace.root / published.weights
    assert digest_apart(weights) == digest_of(weights)
    model = ErasableModel.open(story.workspace, published, quiet())
    rows, version = tuple(s for s in model.samples if s.split == "train")[:4], model.version
    apart, here = (
        ReferenceJob(
            weights, version.root, version.config, rows, 1, 5, "cpu", 1, tmp_path / n / "0.safetensors"
        )
        for n in ("apart", "inline")
    )
    for job in (apart, here):
        job.target.parent.mkdir()
    done: list[int] = []
    train_side_by_side([apart], 2, lambda: done.append(1))
    assert done == [1]
    assert not mark.exists()
    train_one(here)
    assert apart.target.read_bytes() == here.target.read_bytes()


def test_a_reference_that_cannot_be_trained_is_told(tmp_path: Path) -> None:
    nothing = tmp_path / "none.pt"
    jobs_ = [ReferenceJob(nothing, tmp_path, None, (), 1, 5, "cpu", 1, tmp_path / str(i)) for i in range(2)]
    with pytest.raises(ExpungeError, match=r"none\.pt"):
        train_side_by_side(jobs_, 2, lambda: None)


@pytest.mark.slow
def test_the_whole_life(story: Story, mark: Path, tmp_path: Path) -> None:
    """Forgetting, a deferred repair, a replay, a worker of the desk, and ordinary training."""
    story.slices = story.shards = 2
    story.begin()
    story.forget("p1")
    story.forget("p2", defer=True)
    story.repair()
    assert verify(story.workspace, "m", Means(replay=True), quiet())["valid"]
    request = intake.open_request(story.workspace, Ask(subjects=("p3",)))["request"]
    intake.approve(story.workspace, request)
    job = jobs.submit(story.workspace, jobs.RUN, {"requests": [request]}, "ann")
    assert supervisor.start_worker(story.workspace, 0).wait(300) == 0
    assert jobs.find(story.workspace, job.id).state == "done"
    plain = tmp_path / "plain"
    shutil.copytree(story.world.root, plain)
    train_plain(
        plain / "data.yaml", tmp_path / "out", weights=str(worlds.tiny_architecture(tmp_path, "detect")),
        epochs=1, imgsz=32, batch=4, seed=0, threads=1,
    )  # fmt: skip
    assert not mark.exists()
