# SPDX-License-Identifier: Apache-2.0
"""Adopted models are unlearned by a method, audited, and published with their verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proof import Story, old, once, quiet
from sqlalchemy import select

from expunge.catalog import model_store
from expunge.catalog.tables import ModelVersionRow, RequestRow
from expunge.erasure import execution
from expunge.erasure.method_settings import MethodSettings
from expunge.erasure.repair import repair
from expunge.errors import InputError
from expunge.evidence import certificates, verifier
from expunge.models import training
from expunge.tasks.weights import state_of
from expunge.unlearning.result import Result


def test_rejected_result_leaves_the_request_open(story: Story) -> None:
    before = old(story)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once())
    (entry,) = outcome["models"]
    after = old(story)
    assert entry["verdict"] in ("fail", "no-power")  # a dozen pictures prove nothing
    assert entry["accepted"] is False
    assert outcome["state"] == "running"
    assert (after.number, after.guarantee, after.state) == (2, "none", "superseded")
    assert entry["digest"] == after.digest != before.digest
    assert entry["method"] == "finetune"
    assert entry["metrics_before"]["images"] == entry["metrics_after"]["images"]
    with story.workspace.session() as session:
        assert [p.state for p in model_store.model_versions(session, "old")] == ["superseded", "superseded"]
    assert training.status(story.workspace, story.workspace.root / after.weights)["status"] == "superseded"
    statement = certificates.predicate_of(Path(outcome["certificate"]))
    assert statement["models"][0]["verdict"] == entry["verdict"]
    assert statement["models"][0]["audit"]["reasons"]
    assert b'"p1"' not in certificates.read(Path(outcome["certificate"])).payload
    assert verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(), quiet())["valid"]

    # The same request by a retrain: it is sound by construction, whatever the audit measures.
    again = story.forget("p1", method="retrain", settings=once(hyperparameters={"epochs": 1}))
    (entry,) = [m for m in again["models"] if m["model"].startswith("old")]
    assert entry["method"] == "retrain"
    assert entry["accepted"] or "Utility collapse" in entry["reasons"][1]
    if entry["accepted"]:
        assert old(story).guarantee == "audited"
        assert again["state"] in ("executed", "closed")
        assert state_of(story.workspace.root / old(story).weights)


def test_no_power_can_be_accepted(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "sound", False)
    settings = once(accept_no_power=True)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=settings)
    (entry,) = outcome["models"]
    assert entry["accepted"] is (entry["verdict"] == "no-power")


def test_erasable_and_adopted_model_in_one_request(story: Story) -> None:
    """The erasable model forgets exactly, whatever the method for the adopted one."""
    outcome = story.forget("p2", method="finetune", settings=once())
    kinds = {m["model"].partition("@")[0]: m["guarantee"] for m in outcome["models"]}
    assert kinds["m"] == "exact"
    assert kinds["old"] in ("none", "audited")


def test_a_deferred_unlearning_waits_for_the_repair(story: Story) -> None:
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once(), defer=True)
    assert outcome["models"][0]["digest"] is None
    assert old(story).state == "superseded"  # an adopted model has no interim model
    story.forget("p2", models=("old",), method="finetune", settings=once(), defer=True)
    done = repair(story.workspace, (), quiet())
    (entry,) = [m for m in done["models"] if m["model"].startswith("old")]
    assert entry["digest"]
    assert old(story).number == 2  # one unlearning for both


def test_erasure_of_a_validation_sample(story: Story) -> None:
    first = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert first["models"]
    second = story.forget(samples=[validation_sample(story)], models=("old",), method="finetune")
    (entry,) = second["models"]
    assert entry["method"] in ("none", "finetune")


def validation_sample(story: Story) -> str:
    """Return the path of a validation sample."""
    from expunge.catalog.dataset_store import get_version, load_samples

    with story.workspace.session() as session:
        rows = load_samples(session, get_version(session, "shop"), "val")
    return rows[0].path


def test_dry_run_and_invalid_methods(story: Story) -> None:
    def request(**values: Any) -> execution.ErasureRequest:
        return execution.ErasureRequest(subjects=("p1",), **{"models": ("old",), **values})

    preview = execution.dry_run(story.workspace, request(method="scrub"))["models"][0]
    assert preview["method"] == "scrub"
    assert preview["saw"] > 0
    for values, message in (
        ({"method": "magic"}, "no method"),
        ({"method": "delete"}, "cannot erase a subject"),
        ({"method": "exact"}, "not trained erasable"),
        ({"method": "scrub", "settings": once(hyperparameters={"speed": 1})}, "no hyper-parameter"),
        ({"method": "auto", "settings": once()}, "is not a setting of --method auto"),
        ({"method": "scrub", "settings": MethodSettings(budget=-1.0)}, "budget"),
        ({"method": "scrub", "models": ("m",)}, "trained erasable"),
    ):
        with pytest.raises(InputError, match=message):
            execution.forget(story.workspace, request(**values), quiet())
    assert old(story).number == 1


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_audit_with_references_decides(story: Story) -> None:
    with pytest.raises(InputError, match="needs at least 19"):
        story.forget("p1", models=("old",), method="finetune", settings=once(level="full", references=3))
    with pytest.raises(InputError, match="no level 'deep'"):
        story.forget("p1", models=("old",), method="finetune", settings=once(level="deep"))
    settings = once(level="standard", references=1)
    with pytest.raises(InputError, match="The number of training epochs of old"):
        story.forget("p1", models=("old",), method="finetune", settings=settings)
    with story.workspace.session(write=True) as session:
        assert not session.scalars(select(RequestRow)).all(), "nothing was changed"
        row = session.scalars(select(ModelVersionRow).where(ModelVersionRow.plan_digest.is_(None))).one()
        row.composition = {**(row.composition or {}), "retrain_epochs": 1}
    outcome = story.forget("p1", models=("old",), method="finetune", settings=settings)
    (entry,) = outcome["models"]
    certified = certificates.predicate_of(Path(outcome["certificate"]))["models"][0]["audit"]
    if entry["audit"]["level"] == "quick":  # a failure at this level is final: no references are trained
        assert entry["verdict"] == "fail"
    else:
        assert entry["reasons"][0] == "Audit at the level standard with 1 reference(s), 1 trained, 0 reused."
        assert {f["view"] for f in certified["figures"]} >= {"outputs", "noisy inputs", "refitted head"} or (
            entry["audit"]["utility"]["holds"] is False or not certified["figures"]
        )
    assert certified["level"] == entry["audit"]["level"]
    assert verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(), quiet())["valid"]
