# SPDX-License-Identifier: Apache-2.0
"""Child processes import nothing from the current folder or from a data set."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import worlds
from proof import Story, quiet

from expunge.erasure import intake
from expunge.erasure.reference_training import ReferenceJob, train_one, train_side_by_side
from expunge.erasure.scope import ErasureRequest
from expunge.errors import ExpungeError
from expunge.evidence.tensors import digest_apart, digest_of
from expunge.evidence.verifier import VerifyOptions, verify
from expunge.exact.model import ErasableModel
from expunge.tasks.baseline import train_plain
from expunge.web.jobs import job_store, supervisor

# Modules that child processes import, from the standard library and from packages, including at start-up.
MODULES = ("random", "colorsys", "sitecustomize", "usercustomize", "cv2", "yaml", "json", "tempfile", "types")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file to which planted modules in the current folder and the data folder write."""
    mark, folder = tmp_path / "mark", tmp_path / "here"
    for place in (folder, tmp_path / "data"):
        plant(place, mark)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ":")  # as when a shell appends to an unset variable
    return mark


def plant(folder: Path, mark: Path) -> None:
    text = f"import sys\nopen({str(mark)!r}, 'a').write(__name__ + chr(10))\nsys.exit(9)\n"
    (folder / "ultralytics").mkdir(parents=True, exist_ok=True)
    (folder / "ultralytics" / "__init__.py").write_text(text)
    for name in MODULES:
        (folder / f"{name}.py").write_text(text)


def test_a_planted_module_runs_in_an_unprotected_child(mark: Path) -> None:
    subprocess.run([sys.executable, "-c", "import colorsys"], check=False)
    assert mark.exists()


@pytest.fixture
def story(tmp_path: Path, mark: Path) -> Story:
    """Return a workspace with a data set that contains planted modules."""
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


def test_a_reference_that_cannot_be_trained_is_reported(tmp_path: Path) -> None:
    nothing = tmp_path / "none.pt"
    jobs_ = [ReferenceJob(nothing, tmp_path, None, (), 1, 5, "cpu", 1, tmp_path / str(i)) for i in range(2)]
    with pytest.raises(ExpungeError, match=r"none\.pt"):
        train_side_by_side(jobs_, 2, lambda: None)


@pytest.mark.slow
def test_all_commands_that_start_processes(story: Story, mark: Path, tmp_path: Path) -> None:
    """Forget, defer a repair, replay, run a worker of the desk, and train a baseline."""
    story.slices = story.shards = 2
    story.begin()
    story.forget("p1")
    story.forget("p2", defer=True)
    story.repair()
    assert verify(story.workspace, "m", VerifyOptions(replay=True), quiet())["valid"]
    request = intake.open_request(story.workspace, ErasureRequest(subjects=("p3",)))["request"]
    intake.approve(story.workspace, request)
    job = job_store.submit(story.workspace, job_store.RUN, {"requests": [request]}, "ann")
    assert supervisor.start_worker(story.workspace, 0).wait(300) == 0
    assert job_store.find(story.workspace, job.id).state == "done"
    plain = tmp_path / "plain"
    shutil.copytree(story.world.root, plain)
    train_plain(
        plain / "data.yaml", tmp_path / "out", weights=str(worlds.tiny_architecture(tmp_path, "detect")),
        epochs=1, imgsz=32, batch=4, seed=0, threads=1,
    )  # fmt: skip
    assert not mark.exists()
