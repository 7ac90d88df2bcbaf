# SPDX-License-Identifier: Apache-2.0
"""Closing where the workspace holds audits with references: nothing personal remains in any byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from proof import Story, old, once, quiet

from expunge.evidence import verify as evidence
from expunge.steps.audits import PLOTS, Question, audit_model
from expunge.unlearning.result import Result


def traces(story: Story, who: str) -> dict[str, bytes]:
    """Paths, names, digests and salts of a person's samples, and the id as any text has it."""
    rows = story.workspace.query(
        "SELECT path, image_digest, salt FROM sample JOIN sample_subject ON sample_id = sample.id"
        f" JOIN subject ON subject.id = subject_id WHERE subject.name = '{who}'"
    )
    assert len(rows) == 3
    found = {"id": f'"{who}"'.encode()}
    for row in rows:
        path = str(row["path"])
        found |= {path: path.encode(), f"{path} name": path.rpartition("/")[2].encode()}
        digest = str(row["image_digest"])
        found |= {f"{path} digest": digest.encode(), f"{path} bytes": bytes.fromhex(digest)}
        if row["salt"] is not None:
            found[f"{path} salt"] = row["salt"]
    return found


def left(story: Story, words: dict[str, bytes]) -> set[str]:
    found = set()
    for file in story.workspace.root.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        content += str(file.relative_to(story.workspace.root)).encode()
        found |= {f"{word} in {file.name}" for word, value in words.items() if value in content}
    return found


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_nothing_personal_stays(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "sound", False)
    words = traces(story, "p1")
    outcome = story.forget("p1", method="finetune", settings=once())
    assert outcome["state"] == "running"
    words |= traces(story, "p1")  # the certificate has given salts
    assert any("salt" in word for word in words)
    assert left(story, words), "the search can find them"

    asked: dict[str, Any] = {"model": "old", "request": outcome["request"], "epochs": 1, "jobs": 1}
    report = audit_model(story.workspace, Question(**asked, level="standard", references=1), quiet())
    assert report["references"]["count"] == 1
    assert list(story.workspace.references.rglob("*.safetensors"))

    monkeypatch.setattr(Result, "sound", True)
    closed = story.forget("p1", method="finetune", settings=once(), delete_originals=True)
    assert closed["state"] == "closed"
    assert old(story).guarantee == "audited"
    assert left(story, words) == set()
    reports = (f for f in story.workspace.audits.iterdir() if not f.name.endswith(PLOTS))
    kept = [json.loads(file.read_text()) for file in reports]
    assert [k["request"] for k in kept] == [outcome["request"]]
    assert evidence.verify(story.workspace, outcome["request"], evidence.Means(), quiet())["valid"]
