# SPDX-License-Identifier: Apache-2.0
"""A model that ``--model`` left out of a request: a later command makes it forget, and that closes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proof import Story, old, once, quiet

from expunge.catalog.models import get_request
from expunge.catalog.requests import events
from expunge.errors import InputError
from expunge.evidence import certificate
from expunge.evidence import verify as evidence
from expunge.queue import batch
from expunge.queue.batch import Chosen
from expunge.queue.originals import originals
from expunge.steps.settling import holders
from expunge.unlearning.result import Result

pytestmark = pytest.mark.parametrize("story", ["classify"], indirect=True)


@pytest.fixture
def first(story: Story, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """p1 was forgotten by ``m`` alone; a dozen pictures prove nothing, so every result counts as sound."""
    monkeypatch.setattr(Result, "sound", True)
    outcome = story.forget("p1", models=("m",), delete_originals=True)
    assert (outcome["state"], outcome["originals_left"]) == ("executed", 3), "the other needs them"
    assert holders(story.workspace, outcome["request"]) == ["old"]
    return outcome


def closed(story: Story, request: str) -> None:
    assert not list(originals(story.workspace, request))
    assert holders(story.workspace, request) == []
    said = certificate.predicate_of(certificate.path_of(story.workspace, request))
    assert said["state"] == "closed"
    assert {m["model"].partition("@")[0] for m in said["models"]} == {"m", "old"}
    assert evidence.verify(story.workspace, request, evidence.Means(), quiet())["valid"]
    with story.workspace.session() as session:
        steps = [e["to"] for e in events(session, request) if e["from"] != e["to"]]
    assert steps[-7:] == ["running", "executed", "resumed", "executed", "audited", "certified", "closed"]


def test_forget_for_that_model(story: Story, first: dict[str, Any]) -> None:
    before = old(story)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert outcome["request"] == first["request"]
    (entry,) = outcome["models"]
    assert (entry["method"], entry["digest"]) == ("finetune", old(story).digest)
    assert old(story).digest != before.digest
    assert outcome["state"] == "closed"
    closed(story, first["request"])
    again = story.forget("p1", models=("old",))
    assert (again["models"], again["state"]) == ([], "closed")


def test_the_request_run_again(story: Story, first: dict[str, Any]) -> None:
    ran = batch.run(story.workspace, Chosen(every=True), quiet())
    assert ran.outcomes[first["request"]]["state"] == "executed", "left out on purpose, and not named now"
    assert old(story).number == 1
    with story.workspace.session(write=True) as session:  # a quick method in place of auto
        row = get_request(session, first["request"])
        row.method, row.selection = "finetune", {**row.selection, "settings": once().as_json()}
    ran = batch.run(story.workspace, Chosen(ids=(first["request"],)), quiet())
    assert not ran.failed
    assert ran.outcomes[first["request"]]["state"] == "closed"
    closed(story, first["request"])


def test_deferred_or_denied_changes_nothing(story: Story, first: dict[str, Any]) -> None:
    asked: list[dict[str, Any]] = []

    def no(preview: dict[str, Any]) -> bool:
        asked.append(preview)
        return False

    with pytest.raises(InputError, match="Nothing was changed"):
        story.forget("p1", models=("old",), method="finetune", settings=once(), confirm=no)
    (shown,) = asked[0]["models"]
    assert (shown["model"], shown["saw"], shown["method"]) == ("old@1", 3, "finetune")
    assert story.forget("p1", models=("old",), defer=True)["state"] == "executed"
    assert old(story).number == 1


def test_what_is_gone_cannot_be_shown(story: Story, first: dict[str, Any]) -> None:
    for file in originals(story.workspace, first["request"]):
        file.unlink()
    with pytest.raises(InputError, match="3 pictures that old has to forget are gone") as caught:
        story.forget("p1", models=("old",), method="finetune", settings=once())
    assert "p1" not in str(caught.value)
    assert old(story).number == 1


def test_a_verdict_that_fails_leaves_it_open(
    story: Story, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Result, "sound", False)
    outcome = story.forget("p1", models=("old",), method="finetune", settings=once())
    assert outcome["models"][0]["accepted"] is False
    assert outcome["state"] == "running"
    assert Path(outcome["certificate"]).is_file()
    monkeypatch.setattr(Result, "sound", True)
    assert story.forget("p1", models=("old",), method="finetune", settings=once())["state"] == "closed"
    assert holders(story.workspace, first["request"]) == []
