# SPDX-License-Identifier: Apache-2.0
"""A batch of requests gives the same model as one request after the other, at a lower cost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worlds
from proof import Story, quiet

from expunge.catalog import model_store
from expunge.erasure import intake, scheduler, status
from expunge.erasure.scope import ErasureRequest
from expunge.evidence import verifier
from expunge.evidence.certificates import predicate_of
from expunge.models import training
from expunge.workspace import Workspace

pytestmark = pytest.mark.slow
LEAVING = ("p1", "p2", "p5")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a workspace with one model."""
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect")
    story.begin()
    return story


def copied(story: Story, name: str) -> Workspace:
    """Return a copy of the workspace; the folder of images is shared."""
    return Workspace.open(shutil.copytree(story.workspace.root, story.folder / name / ".expunge"))


def approved(workspace: Workspace, subject: str, **options: bool) -> str:
    """Open and approve a request for a subject; return its id."""
    request = str(intake.open_request(workspace, ErasureRequest(subjects=(subject,), **options))["request"])
    intake.approve(workspace, request)
    return request


def newest(workspace: Workspace) -> model_store.ModelVersion:
    with workspace.session() as session:
        return model_store.find_model(session, "m")


def run_all(workspace: Workspace) -> scheduler.QueueRun:
    return scheduler.run(workspace, scheduler.QueueSelection(every=True), quiet())


def test_batch_gives_the_model_of_single_requests_with_one_training(story: Story, tmp_path: Path) -> None:
    story.workspace._engine.dispose()
    together, apart, deferred = (copied(story, name) for name in ("together", "apart", "deferred"))
    requests = [approved(together, who) for who in LEAVING]
    (plan,) = status.waiting_costs(together)
    assert plan["requests"] == requests
    assert plan["bound_by"] == requests[0]
    assert 0 < plan["together"] <= plan["one_by_one"]
    before = newest(together).number
    ran = run_all(together)
    assert newest(together).number <= before + 2, "an interim at most, and one repair"
    entry = ran.outcomes[requests[-1]]["models"][0]
    assert entry["cost_predicted"] == pytest.approx(plan["together"], abs=1e-6)
    single_costs = 0.0
    for who in reversed(LEAVING):
        request = approved(apart, who)
        single_costs += run_all(apart).outcomes[request]["models"][0]["cost_predicted"]
    assert single_costs >= entry["cost_predicted"]
    for who in LEAVING:
        approved(deferred, who, defer=True)
    assert {o["state"] for o in run_all(deferred).outcomes.values()} == {"running"}
    run_all(deferred)
    digests = {newest(workspace).digest for workspace in (together, apart, deferred)}
    assert digests == {entry["digest"]}
    for request in requests:
        assert verifier.verify(together, request, verifier.VerifyOptions(), quiet())["valid"]
        statement = predicate_of(together.certificates / f"{request}.json")
        assert [m["digest"] for m in statement["models"]] == [entry["digest"]]
    story.workspace = together
    assert story.from_nothing(newest(together).label, tmp_path / "never") == entry["digest"]


def test_status_knows_every_published_file(tmp_path: Path) -> None:
    """Single files of a deleted ensemble are known too."""
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect", {"aggregate": "ensemble"})
    story.begin()
    kept: dict[Path, str] = {}
    for who in ("", "p1", "p2"):
        if who:
            story.forget(who)
        with story.workspace.session() as session:
            for published in model_store.model_versions(session, "m"):
                folder = story.workspace.root / published.weights
                for file in [folder, *sorted(folder.iterdir())] if folder.is_dir() else []:
                    copy = tmp_path / "kept" / published.label / file.relative_to(folder.parent)
                    if file.is_file():
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, copy)
                        kept[copy] = published.label
    with story.workspace.session() as session:
        current = model_store.find_model(session, "m")
    for file in (story.workspace.models / "m").iterdir():
        if file.name != Path(current.weights).name:
            shutil.rmtree(file)  # as a purge does
    for copy in kept:
        found = training.status(story.workspace, copy)
        assert found["status"] in ("current", "superseded"), copy.name
    assert {
        training.status(story.workspace, c)["status"] for c, label in kept.items() if label == current.label
    } == {"current"}
    assert "superseded" in {training.status(story.workspace, copy)["status"] for copy in kept}
