# SPDX-License-Identifier: Apache-2.0
"""Runs the pipeline on small worlds, and repeats what it published from nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import worlds
from benchmarks.inline import in_turn

from expunge.catalog.dataset_store import add_version, load_samples
from expunge.catalog.model_store import ModelVersion, find_model
from expunge.data.export import export_version
from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.erasure import execution
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.repair import repair
from expunge.erasure.scope import ErasureRequest
from expunge.erasure.workspace import Workspace
from expunge.exact import runner
from expunge.exact.composition import Composition
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options
from expunge.models import training
from expunge.progress import Progress


def train_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: the worker's own code without the seconds that starting one takes."""
    monkeypatch.setattr(runner, "_parallel", in_turn)


def quiet() -> Progress:
    """Nobody watches."""
    return Progress(quiet=True)


@dataclass
class Story:
    """A workspace with one model, and what was erased from it so far."""

    folder: Path
    world: worlds.World
    task: str
    settings: dict[str, str] = field(default_factory=dict)
    shards: int = 2
    slices: int = 2
    epochs: int = 2
    erased: list[str] = field(default_factory=list)

    def begin(self) -> training.ModelVersion:
        """Add the data and train."""
        self.workspace = Workspace.init(self.folder / "w")
        add(self.workspace, self.world)
        options = Options(
            weights=str(worlds.tiny_architecture(self.folder, self.task)),
            shards=self.shards,
            slices=self.slices,
            epochs=self.epochs,
            imgsz=32,
            batch=4,
            settings=self.settings,
        )
        return training.train(self.workspace, "shop", "m", options=options, progress=quiet())

    def reopen(self) -> None:
        """What a new process would do."""
        self.workspace = Workspace.open(self.folder / "w")

    def forget(self, *subjects: str, samples: Sequence[str] = (), **options: Any) -> dict[str, Any]:
        """Forget."""
        ask = ErasureRequest(subjects=subjects, samples=samples, **options)
        return execution.forget(self.workspace, ask, quiet())

    def repair(self) -> dict[str, Any]:
        """Repair what waits."""
        return repair(self.workspace, (), quiet())

    def newest(self) -> training.ModelVersion:
        """The model's newest version."""
        with self.workspace.session() as session:
            return find_model(session, "m")

    def from_nothing(self, label: str, folder: Path, *, unfiltered: bool = False) -> str:
        """Train what a published version is a function of in a new workspace, on a new folder.

        Args:
            label: The version.
            folder: Where to work; emptied.
            unfiltered: The negative control: train on everything that the dataset ever had.
        """
        shutil.rmtree(folder, ignore_errors=True)
        with self.workspace.session() as session:
            published = find_model(session, label)
        model = ErasableModel.open(self.workspace, published, quiet())
        samples = model.samples
        if unfiltered:
            with self.workspace.session() as session:
                samples = load_samples(session, model.version)
        export_version(model.version, samples, folder / "data")
        people = {s.path: s.subjects for s in samples if s.subjects}
        source = folder / "data" / "data.yaml" if self.task == "detect" else folder / "data"
        copy = worlds.World(folder / "data", source, people, [s.path for s in samples if s.public])
        plan = folder / "plan.json"
        shutil.copyfile(plan_file(self.workspace, model.plan.digest), plan)
        shutil.copyfile(model.initial, folder / "initial.weights")
        fresh = Workspace.init(folder / "w")
        add(fresh, copy)
        composition = Composition.from_json(published.composition or {})
        again = training.train(fresh, "shop", "m", from_plan=plan, composition=composition, progress=quiet())
        return again.digest


def add(workspace: Workspace, world: worlds.World) -> None:
    """``expunge data add shop``."""
    table, listed = world.tables()
    people = read_subjects(table) if world.subjects else None
    found = attach_subjects(scan(world.source), people, (str(listed),) if world.public else ())
    for extra in (table, listed):
        extra.unlink()
    with workspace.session(write=True) as session:
        add_version(session, "shop", found, key=workspace.key)


def once(**changes: Any) -> MethodSettings:
    """Settings of a method that does next to nothing."""
    return MethodSettings(**{"hyperparameters": {"epochs": 1, "batch": 4}, "budget": 5.0, **changes})


def old(story: Story) -> ModelVersion:
    """The newest version of the adopted model."""
    with story.workspace.session() as session:
        return find_model(session, "old")
