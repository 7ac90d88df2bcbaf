# SPDX-License-Identifier: Apache-2.0
"""Models that were trained elsewhere: unlearned by a method, judged, published with their verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proof import Story, old, once, quiet
from sqlalchemy import select

from expunge import pipeline, training
from expunge.catalog import models as catalog
from expunge.catalog.tables import ModelVersionRow, RequestRow
from expunge.errors import InputError
from expunge.evidence import certificate
from expunge.evidence import verify as evidence
from expunge.queue.repair import repair
from expunge.steps.approximation import Settings
from expunge.tasks.weights import state_of
from expunge.unlearning.result import Result


def test_unlearned_judged_and_left_open(story: Story) -> None:
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
        assert [p.state for p in catalog.history(session, "old")] == ["superseded", "superseded"]
    assert training.status(story.workspace, story.workspace.root / after.weights)["status"] == "superseded"
    statement = certificate.predicate_of(Path(outcome["certificate"]))
    assert statement["models"][0]["verdict"] == entry["verdict"]
    assert statement["models"][0]["audit"]["reasons"]
    assert b'"p1"' not in certificate.read(Path(outcome["certificate"])).payload
    assert evidence.verify(story.workspace, outcome["request"], evidence.Means(), quiet())["valid"]

    # The same request again, by a retrain: sound by how it was made, whatever the comparison says.
    again = story.forget("p1", method="retrain", settings=once(hyperparameters={"epochs": 1}))
    (entry,) = [m for m in again["models"] if m["model"].startswith("old")]
    assert entry["method"] == "retrain"
    assert entry["accepted"] or "Utility collapse" in entry["reasons"][1]
    if entry["accepted"]:
        assert old(story).guarantee == "audited"
        assert again["state"] in ("executed", "closed")
        assert state_of(story.workspace.root / old(story).weights)


def test_no_power_may_be_accepted(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "sound", False)
    how = once(accept_no_power=True)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=how)
    (entry,) = outcome["models"]
    assert entry["accepted"] is (entry["verdict"] == "no-power")


def test_both_kinds_in_one_request(story: Story) -> None:
    """What was trained here forgets exactly, whatever method is named for the others."""
    outcome = story.forget("p2", method="finetune", settings=once())
    kinds = {m["model"].partition("@")[0]: m["guarantee"] for m in outcome["models"]}
    assert kinds["m"] == "exact"
    assert kinds["old"] in ("none", "audited")


def test_a_deferred_unlearning_waits_for_the_repair(story: Story) -> None:
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once(), defer=True)
    assert outcome["models"][0]["digest"] is None
    assert old(story).state == "superseded"  # nothing clean is left to show
    story.forget("p2", models=("old",), method="finetune", settings=once(), defer=True)
    done = repair(story.workspace, (), quiet())
    (entry,) = [m for m in done["models"] if m["model"].startswith("old")]
    assert entry["digest"]
    assert old(story).number == 2  # one unlearning for both


def test_erased_already_and_never_seen(story: Story) -> None:
    first = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert first["models"]
    untouched = story.forget(samples=[unseen_picture(story)], models=("old",), method="finetune")
    (entry,) = untouched["models"]
    assert entry["method"] in ("none", "finetune")


def unseen_picture(story: Story) -> str:
    from expunge.catalog.datasets import get_version, load_samples

    with story.workspace.session() as session:
        rows = load_samples(session, get_version(session, "shop"), "val")
    return rows[0].path


def test_dry_run_and_refusals(story: Story) -> None:
    def ask(**values: Any) -> pipeline.Ask:
        return pipeline.Ask(subjects=("p1",), **{"models": ("old",), **values})

    preview = pipeline.dry_run(story.workspace, ask(method="scrub"))["models"][0]
    assert preview["method"] == "scrub"
    assert preview["saw"] > 0
    for values, what in (
        ({"method": "magic"}, "no method"),
        ({"method": "delete"}, "not for this request"),
        ({"method": "exact"}, "not trained erasable"),
        ({"method": "scrub", "settings": once(hyperparameters={"speed": 1})}, "no hyper-parameter"),
        ({"method": "auto", "settings": once()}, "setting of one method"),
        ({"method": "scrub", "settings": Settings(budget=-1.0)}, "budget"),
        ({"method": "scrub", "models": ("m",)}, "trained erasable"),
    ):
        with pytest.raises(InputError, match=what):
            pipeline.forget(story.workspace, ask(**values), quiet())
    assert old(story).number == 1


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_the_last_step_may_be_an_audit_with_references(story: Story) -> None:
    with pytest.raises(InputError, match="needs at least 19"):
        story.forget("p1", models=("old",), method="finetune", settings=once(level="full", references=3))
    with pytest.raises(InputError, match="no level 'deep'"):
        story.forget("p1", models=("old",), method="finetune", settings=once(level="deep"))
    how = once(level="standard", references=1)
    with pytest.raises(InputError, match="Nobody knows how long to train"):
        story.forget("p1", models=("old",), method="finetune", settings=how)
    with story.workspace.session(write=True) as session:
        assert not session.scalars(select(RequestRow)).all(), "nothing was changed"
        row = session.scalars(select(ModelVersionRow).where(ModelVersionRow.plan_digest.is_(None))).one()
        row.composition = {**(row.composition or {}), "retrain_epochs": 1}
    outcome = story.forget("p1", models=("old",), method="finetune", settings=how)
    (entry,) = outcome["models"]
    said = certificate.predicate_of(Path(outcome["certificate"]))["models"][0]["audit"]
    if entry["audit"]["level"] == "quick":  # a failure there ends it: nothing is gained by references
        assert entry["verdict"] == "fail"
    else:
        assert entry["reasons"][0] == "Audit at the level standard with 1 reference(s), 1 trained, 0 reused."
        assert {f["view"] for f in said["figures"]} >= {"outputs", "noisy inputs", "refitted head"} or (
            entry["audit"]["utility"]["holds"] is False or not said["figures"]
        )
    assert said["level"] == entry["audit"]["level"]
    assert evidence.verify(story.workspace, outcome["request"], evidence.Means(), quiet())["valid"]
