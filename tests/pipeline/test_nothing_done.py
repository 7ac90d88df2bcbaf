# SPDX-License-Identifier: Apache-2.0
"""The command, the queue, the repair and the audit never publish or certify a model that was not changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import worlds
from proof import Story, old, once, quiet
from sqlalchemy import select

from expunge import pipeline
from expunge.catalog import models as catalog
from expunge.catalog.tables import ModelVersionRow, RequestRow
from expunge.errors import InputError
from expunge.evidence import certificate
from expunge.evidence import verify as evidence
from expunge.exact.model import ErasableModel
from expunge.queue.attempts import Other
from expunge.queue.batch import Chosen, run
from expunge.queue.intake import open_request
from expunge.queue.repair import repair
from expunge.steps.approximation import Settings
from expunge.steps.audits import Question, audit_model
from expunge.unlearning import yolo
from expunge.unlearning.result import Result

classify = pytest.mark.parametrize("story", ["classify"], indirect=True)
IDLE = {"epochs": 1, "batch": 4, "lr": 1e-30}


def idle(**changes: Any) -> Settings:
    """Settings with which every step changes nothing, and the test's silence is accepted."""
    return once(hyperparameters=IDLE, accept_no_power=True, **changes)


def nothing_published(story: Story) -> None:
    with story.workspace.session() as session:
        versions = catalog.history(session, "old")
    assert [p.number for p in versions] == [1]
    assert versions[0].state == "superseded"  # it has to be withdrawn all the same


@classify
def test_every_way_to_run_it(story: Story) -> None:
    outcome = story.forget("p1", models=("old",), method="finetune", settings=idle())
    (entry,) = outcome["models"]
    assert (entry["verdict"], entry["accepted"], entry["digest"]) == ("fail", False, None)
    assert entry["reasons"][0].startswith("Nothing was changed")
    assert outcome["state"] == "running"
    nothing_published(story)
    stated = certificate.predicate_of(Path(outcome["certificate"]))["models"][0]
    assert (stated["digest"], stated["guarantee"]) == (None, "none")
    assert evidence.verify(story.workspace, outcome["request"], evidence.Means(), quiet())["valid"]

    (again,) = repair(story.workspace, ("old",), quiet())["models"]
    assert again["verdict"] == "fail"
    nothing_published(story)
    asked = Chosen(ids=(outcome["request"],), other=Other("neggrad_plus", dict(IDLE), None, True))
    run(story.workspace, asked, quiet())
    nothing_published(story)

    done = story.forget("p1", method="finetune", settings=once(accept_no_power=True))  # the control
    (entry,) = [m for m in done["models"] if m["model"].startswith("old")]
    assert entry["digest"] != entry["parent_digest"]
    assert old(story).number == 2


@classify
def test_the_same_attempt_again_is_no_change_to_what_was_turned_down(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned down first and accepted then: the same bytes, made of the same version before."""
    before = old(story)
    monkeypatch.setattr(Result, "sound", False)
    first = story.forget("p1", models=("old",), method="finetune", settings=once())
    monkeypatch.setattr(Result, "sound", True)
    again = story.forget("p1", method="finetune", settings=once())
    (entry,) = [m for m in again["models"] if m["model"].startswith("old")]
    assert entry["digest"] == first["models"][0]["digest"]
    assert (entry["parent"], entry["parent_digest"]) == (before.label, before.digest)
    found = evidence.verify(story.workspace, first["request"], evidence.Means(), quiet())
    assert found["valid"], found
    assert {c["name"]: c["ok"] for c in found["checks"]}["change"] is True


@classify
def test_a_budget_below_a_step_changes_nothing(story: Story) -> None:
    with story.workspace.session(write=True) as session:
        row = session.scalars(select(ModelVersionRow).where(ModelVersionRow.plan_digest.is_(None))).one()
        row.composition = {**(row.composition or {}), "retrain_epochs": 1}
    for values in (
        {"settings": Settings(budget=1e-4)},
        {"settings": once(hyperparameters={"epochs": 0})},
        {"settings": once(hyperparameters={"lr": 0})},
        {"settings": once(hyperparameters={"lr": float("nan")})},
        {"settings": Settings(budget=float("nan"))},
        {"settings": Settings(budget=float("inf"))},
        {"settings": Settings(seed=-1)},
        {"method": "retrain", "settings": once(hyperparameters={"epochs": 0})},
    ):
        ask = pipeline.Ask(subjects=("p1",), models=("old",), **{"method": "finetune", **values})
        for act in (
            lambda ask=ask: pipeline.forget(story.workspace, ask, quiet()),
            lambda ask=ask: open_request(story.workspace, ask),
        ):
            with pytest.raises(InputError) as error:
                act()
            assert error.value.exit_code == 2
            assert error.value.next_step
    with story.workspace.session() as session:
        assert not session.scalars(select(RequestRow)).all()
    assert (old(story).number, old(story).state) == (1, "current")

    ask = pipeline.Ask(subjects=("p1",), models=("old",), method="finetune", settings=once(budget=0.01))
    with pytest.raises(InputError, match="does not suffice") as error:
        pipeline.forget(story.workspace, ask, quiet())
    named = float(error.value.next_step.split("at least ")[1].split(",")[0])
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once(budget=named))
    assert outcome["models"][0]["audit"]["steps"] >= 1


@classify
def test_an_audit_and_a_certificate_of_what_an_earlier_release_published(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace in which the original was published as a result: it is not certified any more."""
    with monkeypatch.context() as earlier:
        earlier.setattr(Result, "sound", True)
        accepted = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert accepted["models"][0]["guarantee"] == "audited"
    with story.workspace.session(write=True) as session:
        versions = {p.number: p for p in catalog.history(session, "old")}
        row = session.get_one(ModelVersionRow, versions[2].id)
        row.digest = versions[1].digest
        request = catalog.get_request(session, accepted["request"])
        (entry,) = request.result["models"]
        request.result = {**request.result, "models": [{**entry, "digest": versions[1].digest}]}
    weights = [story.workspace.root / versions[n].weights for n in (1, 2)]
    weights[1].write_bytes(weights[0].read_bytes())
    report = audit_model(story.workspace, Question("old", accepted["request"], epochs=1, jobs=1), quiet())
    assert report["verdict"] == "fail"
    assert report["reasons"] == ["Nothing was changed: the tensors are those of the original model."]
    settled = repair(story.workspace, (), quiet())
    stated = certificate.predicate_of(certificate.path_of(story.workspace, accepted["request"]))["models"][0]
    assert (stated["digest"], stated["guarantee"], stated["verdict"]) == (None, "none", "fail"), settled


@classify
def test_a_result_that_equals_the_start_is_not_published(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the verdict says: the last look is at the tensors that would be written."""
    unlearned = yolo.unlearn_rows

    def claimed(*given: Any, **more: Any) -> Any:
        result, measure = unlearned(*given, **more)
        return replace(result, unchanged=False, verdict="pass"), measure

    monkeypatch.setattr(yolo, "unlearn_rows", claimed)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=idle())
    assert outcome["models"][0]["accepted"] is False
    nothing_published(story)


def test_an_interim_that_is_final_has_an_earlier_parent(tmp_path: Path) -> None:
    """A shard loses its data in two steps: what the first one published at once is the end of the second."""
    tale = Story(tmp_path, worlds.classification(tmp_path / "data"), "classify", shards=2, slices=1, epochs=1)
    first = tale.begin()
    model = ErasableModel.open(tale.workspace, tale.newest(), quiet())
    paths = sorted(s.path for node in model.graph.nodes if node.shard == 1 for s in node.samples)
    tale.forget(samples=paths[:1], defer=True)
    outcome = tale.forget(samples=paths[1:])
    (entry,) = outcome["models"]
    with tale.workspace.session() as session:
        digests = [p.digest for p in catalog.history(session, "m")]
    assert digests.count(entry["digest"]) > 1  # the control: it is the interim's
    assert (entry["parent"], entry["parent_digest"]) == (first.label, first.digest)
    assert evidence.verify(tale.workspace, outcome["request"], evidence.Means(), quiet())["valid"]
