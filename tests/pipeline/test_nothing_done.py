# SPDX-License-Identifier: Apache-2.0
"""A model that was not changed is never published or certified as a result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import worlds
from proof import Story, old, once, quiet
from sqlalchemy import select

from expunge.catalog import model_store
from expunge.catalog.tables import ModelVersionRow, RequestRow
from expunge.erasure import execution
from expunge.erasure.audit import audit_model
from expunge.erasure.audit_case import AuditOptions
from expunge.erasure.holds import MethodOverride
from expunge.erasure.intake import open_request
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.repair import repair
from expunge.erasure.scheduler import QueueSelection, run
from expunge.errors import InputError
from expunge.evidence import certificates, verifier
from expunge.exact.model import ErasableModel
from expunge.unlearning import yolo
from expunge.unlearning.result import Result

classify = pytest.mark.parametrize("story", ["classify"], indirect=True)
IDLE = {"epochs": 1, "batch": 4, "lr": 1e-30}


def idle(**changes: Any) -> MethodSettings:
    """Return settings with a learning rate that changes no tensor, and with ``no-power`` accepted."""
    return once(hyperparameters=IDLE, accept_no_power=True, **changes)


def check_nothing_published(story: Story) -> None:
    """Assert that no version of ``old`` was published after the first."""
    with story.workspace.session() as session:
        versions = model_store.model_versions(session, "old")
    assert [p.number for p in versions] == [1]
    assert versions[0].state == "superseded"  # it must not be used all the same


@classify
def test_forget_repair_and_run_publish_nothing(story: Story) -> None:
    outcome = story.forget("p1", models=("old",), method="finetune", settings=idle())
    (entry,) = outcome["models"]
    assert (entry["verdict"], entry["accepted"], entry["digest"]) == ("fail", False, None)
    assert entry["reasons"][0].startswith("Nothing was changed")
    assert outcome["state"] == "running"
    check_nothing_published(story)
    certified = certificates.predicate_of(Path(outcome["certificate"]))["models"][0]
    assert (certified["digest"], certified["guarantee"]) == (None, "none")
    assert verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(), quiet())["valid"]

    (again,) = repair(story.workspace, ("old",), quiet())["models"]
    assert again["verdict"] == "fail"
    check_nothing_published(story)
    selection = QueueSelection(
        ids=(outcome["request"],), other=MethodOverride("neggrad_plus", dict(IDLE), None, True)
    )
    run(story.workspace, selection, quiet())
    check_nothing_published(story)

    done = story.forget("p1", method="finetune", settings=once(accept_no_power=True))  # positive control
    (entry,) = [m for m in done["models"] if m["model"].startswith("old")]
    assert entry["digest"] != entry["parent_digest"]
    assert old(story).number == 2


@classify
def test_accepted_repetition_of_a_rejected_attempt_has_the_same_parent(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rejected attempt and its accepted repetition have the same tensors and the same parent."""
    before = old(story)
    monkeypatch.setattr(Result, "sound", False)
    first = story.forget("p1", models=("old",), method="finetune", settings=once())
    monkeypatch.setattr(Result, "sound", True)
    again = story.forget("p1", method="finetune", settings=once())
    (entry,) = [m for m in again["models"] if m["model"].startswith("old")]
    assert entry["digest"] == first["models"][0]["digest"]
    assert (entry["parent"], entry["parent_digest"]) == (before.label, before.digest)
    found = verifier.verify(story.workspace, first["request"], verifier.VerifyOptions(), quiet())
    assert found["valid"], found
    assert {c["name"]: c["ok"] for c in found["checks"]}["change"] is True


@classify
def test_budget_below_one_step_is_refused(story: Story) -> None:
    with story.workspace.session(write=True) as session:
        row = session.scalars(select(ModelVersionRow).where(ModelVersionRow.plan_digest.is_(None))).one()
        row.composition = {**(row.composition or {}), "retrain_epochs": 1}
    for values in (
        {"settings": MethodSettings(budget=1e-4)},
        {"settings": once(hyperparameters={"epochs": 0})},
        {"settings": once(hyperparameters={"lr": 0})},
        {"settings": once(hyperparameters={"lr": float("nan")})},
        {"settings": MethodSettings(budget=float("nan"))},
        {"settings": MethodSettings(budget=float("inf"))},
        {"settings": MethodSettings(seed=-1)},
        {"method": "retrain", "settings": once(hyperparameters={"epochs": 0})},
    ):
        request = execution.ErasureRequest(
            subjects=("p1",), models=("old",), **{"method": "finetune", **values}
        )
        for act in (
            lambda request=request: execution.forget(story.workspace, request, quiet()),
            lambda request=request: open_request(story.workspace, request),
        ):
            with pytest.raises(InputError) as error:
                act()
            assert error.value.exit_code == 2
            assert error.value.next_step
    with story.workspace.session() as session:
        assert not session.scalars(select(RequestRow)).all()
    assert (old(story).number, old(story).state) == (1, "current")

    request = execution.ErasureRequest(
        subjects=("p1",), models=("old",), method="finetune", settings=once(budget=0.01)
    )
    with pytest.raises(InputError, match="does not suffice") as error:
        execution.forget(story.workspace, request, quiet())
    budget = float(error.value.next_step.split("at least ")[1].split(",")[0])
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once(budget=budget))
    assert outcome["models"][0]["audit"]["steps"] >= 1


@classify
def test_unchanged_result_of_an_earlier_release_is_not_certified(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier releases could publish the original model as a result: it is not certified any more."""
    with monkeypatch.context() as earlier:
        earlier.setattr(Result, "sound", True)
        accepted = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert accepted["models"][0]["guarantee"] == "audited"
    with story.workspace.session(write=True) as session:
        versions = {p.number: p for p in model_store.model_versions(session, "old")}
        row = session.get_one(ModelVersionRow, versions[2].id)
        row.digest = versions[1].digest
        request = model_store.get_request(session, accepted["request"])
        (entry,) = request.result["models"]
        request.result = {**request.result, "models": [{**entry, "digest": versions[1].digest}]}
    weights = [story.workspace.root / versions[n].weights for n in (1, 2)]
    weights[1].write_bytes(weights[0].read_bytes())
    report = audit_model(story.workspace, AuditOptions("old", accepted["request"], epochs=1, jobs=1), quiet())
    assert report["verdict"] == "fail"
    assert report["reasons"] == ["Nothing was changed: the tensors are those of the original model."]
    repaired = repair(story.workspace, (), quiet())
    path = certificates.path_of(story.workspace, accepted["request"])
    certified = certificates.predicate_of(path)["models"][0]
    assert (certified["digest"], certified["guarantee"]) == (None, "none"), repaired
    assert certified["verdict"] == "fail"


@classify
def test_a_result_that_equals_the_start_is_not_published(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors are compared before publication, whatever the verdict."""
    unlearn_rows = yolo.unlearn_rows

    def passing(*args: Any, **options: Any) -> Any:
        result, measure = unlearn_rows(*args, **options)
        return replace(result, unchanged=False, verdict="pass"), measure

    monkeypatch.setattr(yolo, "unlearn_rows", passing)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=idle())
    assert outcome["models"][0]["accepted"] is False
    check_nothing_published(story)


def test_result_equal_to_an_interim_has_an_earlier_parent(tmp_path: Path) -> None:
    """A shard loses its data in two requests: the interim of the first equals the result of the second."""
    story = Story(
        tmp_path, worlds.classification(tmp_path / "data"), "classify", shards=2, slices=1, epochs=1
    )
    first = story.begin()
    model = ErasableModel.open(story.workspace, story.newest(), quiet())
    paths = sorted(s.path for node in model.graph.nodes if node.shard == 1 for s in node.samples)
    story.forget(samples=paths[:1], defer=True)
    outcome = story.forget(samples=paths[1:])
    (entry,) = outcome["models"]
    with story.workspace.session() as session:
        digests = [p.digest for p in model_store.model_versions(session, "m")]
    assert digests.count(entry["digest"]) > 1  # the interim has the same tensors
    assert (entry["parent"], entry["parent_digest"]) == (first.label, first.digest)
    assert verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(), quiet())["valid"]
