# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a workspace whose catalog has models without any training, which is enough for a purge."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from expunge.catalog import model_store
from expunge.catalog.dataset_store import add_version, erase, get_version
from expunge.data.types import DatasetConfig, Sample, Scan, Version
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options, make_plan
from expunge.progress import Progress
from expunge.training.plan import Plan
from expunge.workspace import Workspace

PEOPLE = tuple(f"s{i:02d}" for i in range(6))


def rows() -> tuple[Sample, ...]:
    """Return three training samples of each of six subjects, and two validation samples."""
    train = [(f"train/{subject}_{k}.png", "train", (subject,)) for subject in PEOPLE for k in range(3)]
    val = [(f"val/{k}.png", "val", ()) for k in range(2)]
    return tuple(
        Sample(path, split, f"{i:064x}", "", None, subjects)
        for i, (path, split, subjects) in enumerate(train + val)
    )


class World:
    """A workspace with the dataset ``shop``, for which tests publish models by hand."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.workspace = Workspace.init(folder)
        scan = Scan(folder / "data", DatasetConfig("yolo", ("face",)), rows())
        (folder / "data").mkdir()
        with self.workspace.session(write=True) as session:
            add_version(session, "shop", scan, key=self.workspace.key)
        file = plan_file(self.workspace, plan.digest)
        plan.save(file)
        with self.workspace.session(write=True) as session:
            model_store.record_plan(session, plan.digest, str(file.relative_to(self.workspace.root)))

    def model(self, name: str = "m") -> ErasableModel:
        """Return the model with the data retained now."""
        return ErasableModel.of_plan(
            self.workspace, name, self.plan.digest, ("shop", 1), Progress(quiet=True)
        )

    def publish(
        self, name: str = "m", *, request: str | None = None, state: str = "current", adopted: bool = False,
        **more: Any,
    ) -> Path:  # fmt: skip
        """Publish a version with unique bytes as weights; return the weights file."""
        with self.workspace.session(write=True) as session:
            model_id = model_store.ensure_model(session, name, "detect")
            number = model_store.next_number(session, model_id)
            file = self.workspace.models / name / f"{name}-{number}.pt"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(f"weights of {name}@{number} ".encode() * 100)
            version = get_version(session, "shop", 1)
            columns = {
                "number": number, "parent": number - 1 or None, "dataset_id": version.dataset_id,
                "dataset_version": 1, "retained_digest": "x", "samples": 1, "subjects": 1,
                "plan_digest": None if adopted else self.plan.digest,
                "method": "adopt" if adopted else "train", "guarantee": "none" if adopted else "exact",
                "state": state, "digest": f"sha256:{number}", "metrics": None, "cost": None,
                "weights": str(file.relative_to(self.workspace.root)), "composition": None,
                "cpu_seconds": 0.0, "request_id": request,
            }  # fmt: skip
            model_store.publish(session, model_id, **{**columns, **more})
        return file

    def erase(self, *people: str, request: str = "r-1") -> None:
        """Erase subjects from the dataset."""
        with self.workspace.session(write=True) as session:
            erase(
                session, get_version(session, "shop"), set(), set(people), request_id=request,
                key=self.workspace.key,
            )  # fmt: skip

    def train(self, name: str = "m") -> list[Path]:
        """Write and record a checkpoint for every stage of the model; return the files."""
        model = self.model(name)
        files = []
        with self.workspace.session(write=True) as session:
            model_id = model_store.ensure_model(session, name, "detect")
            for node in model.graph.nodes:
                model.store.path(node.key).write_bytes(node.key.encode())
                files.append(model.store.path(node.key))
                model_store.record_checkpoint(
                    session, key=node.key, model_id=model_id, phase=node.phase, shard=node.shard,
                    stage=node.stage, path="", size_bytes=0, digest="", fingerprint={}, cpu_seconds=1.0,
                    images=1,
                )  # fmt: skip
        return files


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Return a plan with two shards of two slices."""
    version = Version(1, "shop", 1, "", Path("shop"), DatasetConfig("yolo", ("face",)), 20, 6)
    options = Options("yolo26n.yaml", shards=2, slices=2, epochs=2, imgsz=32)
    return make_plan(options, version, list(rows()), {})[0]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> World:
    """Return a world to be copied by each test."""
    return World(tmp_path_factory.mktemp("world"), plan)


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    """Return a copy of the world."""
    shutil.copytree(template.folder / ".expunge", tmp_path / ".expunge")
    copy = object.__new__(World)
    copy.folder, copy.plan, copy.workspace = tmp_path, template.plan, Workspace(tmp_path / ".expunge")
    return copy
