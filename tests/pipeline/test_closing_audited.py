# SPDX-License-Identifier: Apache-2.0
"""Closing a request after audits with references leaves no personal data in the workspace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from proof import Story, old, once, quiet

from expunge.erasure.audit import PLOTS, audit_model
from expunge.erasure.audit_case import AuditOptions
from expunge.evidence import verifier
from expunge.unlearning.result import Result


def traces(story: Story, subject: str) -> dict[str, bytes]:
    """Return the bytes of a subject's id and of the paths, names, digests and salts of its samples."""
    rows = story.workspace.query(
        "SELECT path, image_digest, salt FROM sample JOIN sample_subject ON sample_id = sample.id"
        f" JOIN subject ON subject.id = subject_id WHERE subject.name = '{subject}'"
    )
    assert len(rows) == 3
    found = {"id": f'"{subject}"'.encode()}
    for row in rows:
        path = str(row["path"])
        found |= {path: path.encode(), f"{path} name": path.rpartition("/")[2].encode()}
        digest = str(row["image_digest"])
        found |= {f"{path} digest": digest.encode(), f"{path} bytes": bytes.fromhex(digest)}
        if row["salt"] is not None:
            found[f"{path} salt"] = row["salt"]
    return found


def remaining(story: Story, traces: dict[str, bytes]) -> set[str]:
    """Return the traces that occur in a file or file name of the workspace."""
    found = set()
    for file in story.workspace.root.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        content += str(file.relative_to(story.workspace.root)).encode()
        found |= {f"{name} in {file.name}" for name, value in traces.items() if value in content}
    return found


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_no_personal_data_remains(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "sound", False)
    expected = traces(story, "p1")
    outcome = story.forget("p1", method="finetune", settings=once())
    assert outcome["state"] == "running"
    expected |= traces(story, "p1")  # the certificate adds salts
    assert any("salt" in name for name in expected)
    assert remaining(story, expected), "negative control: the search finds them"

    options: dict[str, Any] = {"model": "old", "request": outcome["request"], "epochs": 1, "jobs": 1}
    report = audit_model(story.workspace, AuditOptions(**options, level="standard", references=1), quiet())
    assert report["references"]["count"] == 1
    assert list(story.workspace.references.rglob("*.safetensors"))

    monkeypatch.setattr(Result, "sound", True)
    closed = story.forget("p1", method="finetune", settings=once(), delete_originals=True)
    assert closed["state"] == "closed"
    assert old(story).guarantee == "audited"
    assert remaining(story, expected) == set()
    reports = (f for f in story.workspace.audits.iterdir() if not f.name.endswith(PLOTS))
    stored = [json.loads(file.read_text()) for file in reports]
    assert [report["request"] for report in stored] == [outcome["request"]]
    assert verifier.verify(story.workspace, outcome["request"], verifier.VerifyOptions(), quiet())["valid"]
