# SPDX-License-Identifier: Apache-2.0
"""Requests that are executed together, with real trainings: the bytes of one by one, for less."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worlds
from proof import Story, quiet

from expunge import training
from expunge.catalog import models as catalog
from expunge.evidence import verify as evidence
from expunge.evidence.certificate import predicate_of
from expunge.queue import batch, docket, intake
from expunge.steps.scoping import Ask
from expunge.workspace import Workspace

pytestmark = pytest.mark.slow
LEAVING = ("p1", "p2", "p5")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A workspace with one model."""
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect")
    story.begin()
    return story


def copied(story: Story, name: str) -> Workspace:
    """A copy of the workspace; the folder of images is shared."""
    return Workspace.open(shutil.copytree(story.workspace.root, story.folder / name / ".expunge"))


def approved(workspace: Workspace, who: str, **how: bool) -> str:
    request = str(intake.open_request(workspace, Ask(subjects=(who,), **how))["request"])
    intake.approve(workspace, request)
    return request


def newest(workspace: Workspace) -> catalog.Published:
    with workspace.session() as session:
        return catalog.find_model(session, "m")


def run_all(workspace: Workspace) -> batch.Ran:
    return batch.run(workspace, batch.Chosen(every=True), quiet())


def test_a_batch_is_one_training_and_gives_the_bytes_of_one_by_one(story: Story, tmp_path: Path) -> None:
    story.workspace._engine.dispose()
    together, apart, deferred = (copied(story, name) for name in ("together", "apart", "deferred"))
    requests = [approved(together, who) for who in LEAVING]
    (plan,) = docket.waiting(together)
    assert plan["requests"] == requests
    assert plan["bound_by"] == requests[0]
    assert 0 < plan["together"] <= plan["one_by_one"]
    before = newest(together).number
    ran = run_all(together)
    assert newest(together).number <= before + 2, "an interim at most, and one repair"
    entry = ran.outcomes[requests[-1]]["models"][0]
    assert entry["cost_predicted"] == pytest.approx(plan["together"], abs=1e-6)
    paid = 0.0
    for who in reversed(LEAVING):
        request = approved(apart, who)
        paid += run_all(apart).outcomes[request]["models"][0]["cost_predicted"]
    assert paid >= entry["cost_predicted"]
    for who in LEAVING:
        approved(deferred, who, defer=True)
    assert {o["state"] for o in run_all(deferred).outcomes.values()} == {"running"}
    run_all(deferred)
    digests = {newest(workspace).digest for workspace in (together, apart, deferred)}
    assert digests == {entry["digest"]}
    for request in requests:
        assert evidence.verify(together, request, evidence.Means(), quiet())["valid"]
        statement = predicate_of(together.certificates / f"{request}.json")
        assert [m["digest"] for m in statement["models"]] == [entry["digest"]]
    story.workspace = together
    assert story.from_nothing(newest(together).label, tmp_path / "never") == entry["digest"]


def test_status_answers_for_every_file_ever_published(tmp_path: Path) -> None:
    """Also for one file of an ensemble of which the others are gone."""
    story = Story(tmp_path, worlds.detection(tmp_path / "data"), "detect", {"aggregate": "ensemble"})
    story.begin()
    kept: dict[Path, str] = {}
    for who in ("", "p1", "p2"):
        if who:
            story.forget(who)
        with story.workspace.session() as session:
            for published in catalog.history(session, "m"):
                folder = story.workspace.root / published.weights
                for file in [folder, *sorted(folder.iterdir())] if folder.is_dir() else []:
                    copy = tmp_path / "kept" / published.label / file.relative_to(folder.parent)
                    if file.is_file():
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, copy)
                        kept[copy] = published.label
    with story.workspace.session() as session:
        current = catalog.find_model(session, "m")
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
