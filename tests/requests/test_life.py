# SPDX-License-Identifier: Apache-2.0
"""The whole life of fifty requests with models of paper: an exact one with a real plan, and an adopted one.

With real trainings: tests/slow/test_life.py.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests_kit import Clock, Paper, add_people
from requests_life import Life, check

from expunge.catalog import model_store
from expunge.catalog.dataset_store import get_version, load_samples
from expunge.exact.model import ErasableModel, plan_file
from expunge.exact.planner import Options, make_plan
from expunge.progress import Progress
from expunge.workspace import Workspace

PEOPLE = [f"person-{i:03d}" for i in range(75)]
_templates: list[tuple[Path, str]] = []


@dataclass
class Planned(Paper):
    """``m`` has a plan, and is what the plan makes of what is retained; ``z`` was adopted and is judged."""

    plan: str = ""

    def publish(self, name: str, request_id: str | None) -> model_store.ModelVersion:
        self.judged = name != "m"
        published = super().publish(name, request_id)
        file = self.workspace.root / published.weights
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(f"{name} {published.digest}".encode())
        if self.judged:
            return published
        model = ErasableModel.of_plan(
            self.workspace, "m", self.plan, ("shop", published.dataset_version), Progress(quiet=True)
        )
        with self.workspace.session(write=True) as session:
            row = session.get_one(model_store.ModelVersionRow, published.id)
            row.plan_digest, row.retained_digest = self.plan, model.retained
        return self.newest(name)


def template() -> tuple[Path, str]:
    """A workspace with the people, a plan and both models, made once."""
    if not _templates:
        workspace = Workspace.init(tempfile.mkdtemp(prefix="expunge-life-"))
        workspace.clock = Clock()
        add_people(workspace, PEOPLE)
        with workspace.session() as session:
            version = get_version(session, "shop")
            samples = load_samples(session, version)
        plan, _ = make_plan(
            Options("yolo26n.yaml", shards=2, slices=2, epochs=2, imgsz=32), version, samples, {}
        )
        plan.save(plan_file(workspace, plan.digest))
        with workspace.session(write=True) as session:
            place = plan_file(workspace, plan.digest).relative_to(workspace.root)
            model_store.record_plan(session, plan.digest, str(place))
        with pytest.MonkeyPatch.context() as patch:
            Planned(workspace, plan=plan.digest).install(patch)
        workspace._engine.dispose()
        _templates.append((workspace.root, plan.digest))
    return _templates[0]


def traces(workspace: Workspace) -> dict[str, dict[str, bytes]]:
    """Of each person: id, paths and digests, which the catalog has from the start."""
    found: dict[str, dict[str, bytes]] = {}
    with workspace.session() as session:
        for sample in load_samples(session, get_version(session, "shop")):
            for who in sample.subjects:
                mine = found.setdefault(who, {"id": who.encode()})
                mine |= {
                    sample.path: sample.path.encode(),
                    f"{sample.path} digest": sample.image_digest.encode(),
                }
                mine[f"{sample.path} bytes"] = bytes.fromhex(sample.image_digest)
    return found


class Salts(dict[str, dict[str, bytes]]):
    """Collects the salts of everybody while they are there: they are made with the first certificate."""

    def look(self, workspace: Workspace) -> None:
        query = (
            "SELECT name, path, salt FROM sample JOIN sample_subject ON sample_id = sample.id"
            " JOIN subject ON subject.id = subject_id WHERE salt IS NOT NULL"
        )
        for row in workspace.query(query):
            self[row["name"]][f"{row['path']} salt"] = bytes(row["salt"])


def test_twelve_requests() -> None:
    lived(seed=20, requests=12)


@pytest.mark.slow
def test_fifty_requests() -> None:
    lived(seed=20, requests=50)


@pytest.mark.slow
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # a life takes seconds: nothing is shrunk
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(1, 2**32 - 1))
def test_other_lives(seed: int) -> None:
    lived(seed, requests=15)


def lived(seed: int, requests: int) -> None:
    """Live, and check everything."""
    root, plan = template()
    folder = Path(tempfile.mkdtemp(prefix="expunge-lived-"))
    try:
        clock = Clock()
        workspace = Workspace(Path(shutil.copytree(root, folder / ".expunge")), clock)
        found = Salts(traces(workspace))
        with pytest.MonkeyPatch.context() as patch:
            paper = Planned(workspace, plan=plan)
            paper.replace(patch)
            life = Life(
                workspace, clock, PEOPLE, seed, requests, each_run=lambda closed: found.look(workspace)
            )
            life.live()
            assert {paper.newest(name).digest for name in paper.names} == {paper.digest()}
            check(life, folder, found)
        assert any("salt" in word for mine in found.values() for word in mine)
        assert life.refused or requests < 50
        assert life.batches or requests < 50, "some were executed together"
        workspace._engine.dispose()
    finally:
        shutil.rmtree(folder)


def test_the_search_finds_what_is_left(tmp_path: Path) -> None:
    """The negative control: a person whose name stays in a report is found."""
    root, plan = template()
    clock = Clock()
    workspace = Workspace(Path(shutil.copytree(root, tmp_path / ".expunge")), clock)
    found = traces(workspace)
    with pytest.MonkeyPatch.context() as patch:
        Planned(workspace, plan=plan).replace(patch)
        life = Life(workspace, clock, PEOPLE, 7, requests=2)
        life.live()
        who = sorted({p for plans in life.plans.values() for p in plans.ask.subjects})
        (tmp_path / "notes.txt").write_text(" ".join(who))
        with pytest.raises(AssertionError, match=r"notes\.txt"):
            check(life, tmp_path, found)
