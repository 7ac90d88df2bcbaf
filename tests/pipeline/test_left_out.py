# SPDX-License-Identifier: Apache-2.0
"""A model that ``--model`` left out of a request is updated by a later command, which closes the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proof import Story, old, once, quiet

from expunge.catalog.model_store import get_request
from expunge.catalog.request_store import events
from expunge.erasure import scheduler
from expunge.erasure.closing import models_holding
from expunge.erasure.scheduler import QueueSelection
from expunge.errors import InputError
from expunge.evidence import certificates, verifier
from expunge.purge.originals import find_originals
from expunge.unlearning.result import Result

pytestmark = pytest.mark.parametrize("story", ["classify"], indirect=True)


@pytest.fixture
def first(story: Story, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the outcome of a request for p1 that only updated ``m``; every result counts as sound."""
    monkeypatch.setattr(Result, "sound", True)
    outcome = story.forget("p1", models=("m",), delete_originals=True)
    assert (outcome["state"], outcome["originals_left"]) == ("executed", 3), "the other needs them"
    assert models_holding(story.workspace, outcome["request"]) == ["old"]
    return outcome


def check_closed(story: Story, request: str) -> None:
    """Assert that a request is closed with both models."""
    assert not list(find_originals(story.workspace, request))
    assert models_holding(story.workspace, request) == []
    certified = certificates.predicate_of(certificates.path_of(story.workspace, request))
    assert certified["state"] == "closed"
    assert {m["model"].partition("@")[0] for m in certified["models"]} == {"m", "old"}
    assert verifier.verify(story.workspace, request, verifier.VerifyOptions(), quiet())["valid"]
    with story.workspace.session() as session:
        steps = [e["to"] for e in events(session, request) if e["from"] != e["to"]]
    assert steps[-7:] == ["running", "executed", "resumed", "executed", "audited", "certified", "closed"]


def test_forget_updates_the_left_out_model(story: Story, first: dict[str, Any]) -> None:
    before = old(story)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert outcome["request"] == first["request"]
    (entry,) = outcome["models"]
    assert (entry["method"], entry["digest"]) == ("finetune", old(story).digest)
    assert old(story).digest != before.digest
    assert outcome["state"] == "closed"
    check_closed(story, first["request"])
    again = story.forget("p1", models=("old",))
    assert (again["models"], again["state"]) == ([], "closed")


def test_run_by_id_updates_the_left_out_model(story: Story, first: dict[str, Any]) -> None:
    ran = scheduler.run(story.workspace, QueueSelection(every=True), quiet())
    assert ran.outcomes[first["request"]]["state"] == "executed", "left out on purpose, and not named now"
    assert old(story).number == 1
    with story.workspace.session(write=True) as session:  # a quick method in place of auto
        row = get_request(session, first["request"])
        row.method, row.selection = "finetune", {**row.selection, "settings": once().as_json()}
    ran = scheduler.run(story.workspace, QueueSelection(ids=(first["request"],)), quiet())
    assert not ran.failed
    assert ran.outcomes[first["request"]]["state"] == "closed"
    check_closed(story, first["request"])


def test_deferred_or_unconfirmed_run_changes_nothing(story: Story, first: dict[str, Any]) -> None:
    previews: list[dict[str, Any]] = []

    def no(preview: dict[str, Any]) -> bool:
        previews.append(preview)
        return False

    with pytest.raises(InputError, match="Nothing was changed"):
        story.forget("p1", models=("old",), method="finetune", settings=once(), confirm=no)
    (model,) = previews[0]["models"]
    assert (model["model"], model["saw"], model["method"]) == ("old@1", 3, "finetune")
    assert story.forget("p1", models=("old",), defer=True)["state"] == "executed"
    assert old(story).number == 1


def test_missing_originals_are_an_error(story: Story, first: dict[str, Any]) -> None:
    for file in find_originals(story.workspace, first["request"]):
        file.unlink()
    with pytest.raises(InputError, match="3 pictures that old has to forget are gone") as caught:
        story.forget("p1", models=("old",), method="finetune", settings=once())
    assert "p1" not in str(caught.value)
    assert old(story).number == 1


def test_failed_audit_leaves_the_request_open(
    story: Story, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Result, "sound", False)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert outcome["models"][0]["accepted"] is False
    assert outcome["state"] == "running"
    assert Path(outcome["certificate"]).is_file()
    monkeypatch.setattr(Result, "sound", True)
    assert story.forget("p1", models=("old",), method="finetune", settings=once())["state"] == "closed"
    assert models_holding(story.workspace, first["request"]) == []
