# SPDX-License-Identifier: Apache-2.0
"""The training loop uses every sample, resumes exactly, and opens no erased file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from proof import Story, quiet

from expunge.data.scan import scan
from expunge.exact import worker
from expunge.exact.model import ErasableModel
from expunge.exact.planner import Options, make_plan
from expunge.storage.hashing import tensor_digest
from expunge.tasks.base import get_task
from expunge.training import trainer
from expunge.training.checkpoint import State, load_state, save_state
from expunge.training.schedule import Stage
from expunge.training.trainer import Hooks, run_stage

OPENED: list[str] = []
WATCHING = [False]


def _spy(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING[0] and event == "open" and isinstance(arguments[0], (str, bytes)):
        OPENED.append(str(arguments[0]))


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Collect the names of all files that this process opens."""
    if not getattr(_spy, "installed", False):
        sys.addaudithook(_spy)
        _spy.installed = True  # type: ignore[attr-defined]
    OPENED.clear()
    WATCHING[0] = True
    try:
        yield OPENED
    finally:
        WATCHING[0] = False


class Setting:
    """A tiny plan and its data, ready to train one stage."""

    def __init__(self, folder: Path, task: str = "detect", **settings: str) -> None:
        from expunge.data.types import Version

        make = worlds.detection if task == "detect" else worlds.classification
        self.found = scan(make(folder / "data").source)
        self.samples = [s for s in self.found.samples if s.split == "train"]
        version = Version(1, "shop", 1, "", self.found.root, self.found.config, 0, 0)
        architecture = worlds.tiny_architecture(folder, task)
        options = Options(str(architecture), 1, 1, 4, 32, 4, settings=settings)
        self.plan, self.initial = make_plan(options, version, self.samples, {})
        self.task = get_task(task)
        self.data = self.task.data(self.plan, self.found.config, self.found.root, self.samples)

    def run(self, start: State | None = None, hooks: Hooks | None = None, epochs: int = 4) -> State:
        stage = Stage("shard", 0, epochs, epochs, self.plan.recipe.lr0, True)
        paths = [s.path for s in self.samples]
        start = start or State(self.initial, dict(self.initial))
        return run_stage(self.task, self.plan, start, stage, self.data, paths, hooks or Hooks())


@pytest.mark.parametrize(
    "optimizer", ["AdamW", *(pytest.param(name, marks=pytest.mark.slow) for name in ("MuSGD", "SGD"))]
)
def test_a_resumed_stage_equals_an_uninterrupted_one(tmp_path: Path, optimizer: str) -> None:
    setting = Setting(tmp_path, optimizer=optimizer, mosaic="0.5")
    files: list[Path] = []

    def keep(state: Any) -> None:
        files.append(tmp_path / f"{len(files)}.safetensors")
        save_state(files[-1], state(), {})

    whole = setting.run(hooks=Hooks(epoch=keep))
    half, _ = load_state(files[1])
    assert half.epoch == 2
    resumed = setting.run(half)
    for part in ("model", "ema", "optimizer"):
        assert tensor_digest(getattr(whole, part)) == tensor_digest(getattr(resumed, part))
    assert (whole.ema_updates, whole.scalars) == (resumed.ema_updates, resumed.scalars)
    half.optimizer = {}
    half.scalars = {}
    assert tensor_digest(setting.run(half).ema) != tensor_digest(whole.ema), "negative control"


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_every_sample_is_used_in_every_epoch(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(tmp_path, task)
    used: list[Counter[int]] = [Counter() for _ in range(4)]
    original = type(setting.data).batch

    def count(self: Any, stage: Stage, epoch: int, indices: list[int]) -> Any:
        used[epoch].update(indices)
        return original(self, stage, epoch, indices)

    monkeypatch.setattr(type(setting.data), "batch", count)
    setting.run()
    assert all(counter == Counter(range(len(setting.samples))) for counter in used)


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_average_follows_every_tensor(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average equals one that reads the model's tensors at every step, one by one."""
    steps = []

    class Checked(trainer._Average):
        def __init__(self, model: torch.nn.Module, start: State) -> None:
            super().__init__(model, start)
            self.model, self.slow = model, {k: v.clone() for k, v in self.tensors.items()}

        def update(self, decay: float) -> None:
            super().update(decay)
            for name, value in self.model.state_dict().items():
                slow = self.slow[name]
                self.slow[name] = slow.lerp(value, 1 - decay) if slow.is_floating_point() else value.clone()
                assert torch.equal(self.tensors[name], self.slow[name]), name
            steps.append(decay)

    monkeypatch.setattr(trainer, "_Average", Checked)
    state = Setting(tmp_path, task).run()
    assert len(steps) > 4
    assert not torch.equal(state.ema["model.0.conv.weight"], state.model["model.0.conv.weight"])


def test_a_single_sample_can_be_trained(tmp_path: Path) -> None:
    """A single sample uses running statistics, since batch statistics of one 1x1 map do not exist."""
    setting = Setting(tmp_path, "classify")
    setting.samples = setting.samples[:1]
    setting.data = setting.task.data(setting.plan, setting.found.config, setting.found.root, setting.samples)
    state = setting.run()
    assert all(torch.isfinite(v).all() for v in state.ema.values() if v.is_floating_point())
    assert tensor_digest(state.model) != tensor_digest(setting.initial)


def test_frozen_layers_do_not_change(tmp_path: Path) -> None:
    setting = Setting(tmp_path, freeze="5")
    state = setting.run(epochs=1)
    still = {k for k in setting.initial if k.startswith(tuple(f"model.{i}." for i in range(5)))}
    moved = {k for k in setting.initial if not torch.equal(setting.initial[k], state.model[k])}
    assert still
    assert not moved & still
    assert moved, "negative control: the other layers learn"


def test_divergence_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(tmp_path)
    monkeypatch.setattr(type(setting.task), "loss", lambda self, model, batch: torch.tensor(float("nan")))
    with pytest.raises(trainer.TrainingDiverged):
        setting.run()


def test_global_generators_are_restored(tmp_path: Path) -> None:
    import random

    import numpy as np

    setting = Setting(tmp_path)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = (random.random(), float(np.random.rand()), float(torch.rand(1)))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    setting.run(epochs=1)
    assert (random.random(), float(np.random.rand()), float(torch.rand(1))) == expected


@pytest.mark.usefixtures("inline")
def test_no_erased_file_is_opened(tmp_path: Path) -> None:
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect", {"mosaic": "1.0"})
    with opened_files() as files:
        story.begin()
        assert any("/p1/" in name for name in files), "negative control: before, they are opened"
    with opened_files() as files:
        story.forget("p1")
        story.forget("p4")
        images = {name for name in files if name.endswith((".png", ".txt")) and "/train/" in name}
        assert images
        assert not [name for name in images if "/p1/" in name]
    with opened_files() as files:
        story.forget("p0")
        assert not [name for name in files if "/p1/" in name or "/p4/" in name or "group é 1" in name]


def test_a_replay_cannot_read_the_original(tmp_path: Path) -> None:
    """The guard is permanent, so it is tested in a process of its own."""
    import subprocess

    secret = tmp_path / "original" / "file"
    secret.parent.mkdir()
    secret.write_text("x")
    code = (
        "import sys; from expunge.exact.worker import forbid_reads; forbid_reads([sys.argv[1]]);"
        " open(sys.argv[2])"
    )
    link = tmp_path / "link"
    link.symlink_to(secret)

    def look(folder: Path, file: Path) -> int:
        command = [sys.executable, "-c", code, str(folder), str(file)]
        return subprocess.run(command, capture_output=True).returncode

    assert look(secret.parent, secret) == 1
    assert look(secret.parent, link) == 1
    assert look(tmp_path / "elsewhere", secret) == 0
    assert callable(worker.forbid_reads)


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_a_shard_without_samples_is_not_merged(tmp_path: Path) -> None:
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect", shards=3, slices=1)
    published = story.begin()
    model = ErasableModel.open(story.workspace, published, quiet())
    shard, chain = min(model.graph.shards.items(), key=lambda item: len(item[1][-1].samples))
    subjects = {s for sample in chain[-1].samples for s in sample.subjects}
    alone = [s.path for s in chain[-1].samples if not s.subjects]
    outcome = story.forget(*sorted(subjects), samples=alone)
    stages = outcome["models"][0]["composition"]["stages"]
    assert str(shard) not in stages
    assert outcome["models"][0]["digest"] == story.from_nothing(story.newest().label, tmp_path / "fresh")
