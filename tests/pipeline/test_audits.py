# SPDX-License-Identifier: Apache-2.0
"""``expunge audit`` on tiny models: compared models, stored reports, invalid options."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from proof import Story, old, once, quiet

from expunge.erasure.audit import audit_model
from expunge.erasure.audit_case import AuditOptions
from expunge.errors import InputError


def audited(story: Story, request: str, **options: Any) -> dict[str, Any]:
    """Audit ``old`` for a request and return the report."""
    values = {"model": "old", "request": request, "epochs": 1, "jobs": 1, **options}
    return audit_model(story.workspace, AuditOptions(**values), quiet())


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_references_are_reused_until_the_next_erasure(story: Story) -> None:
    request = story.forget("p1", models=("old",), method="finetune", settings=once())["request"]
    before = torch.get_num_threads()
    quick = audited(story, request)
    assert (quick["model"], quick["original"], quick["level"]) == ("old@2", "old@1", "quick")
    assert quick["verdict"] in ("no-power", "fail")  # a dozen pictures prove nothing
    assert quick["references"] == {"count": 0, "origin": "none"}
    stored = json.loads(Path(quick["report"]).read_text())
    assert stored["verdict"] == quick["verdict"]
    assert '"p1"' not in json.dumps(stored)

    standard = audited(story, request, level="standard")
    assert standard["references"] == {"count": 2, "origin": "2 trained, 0 reused"}
    again = audited(story, request, level="standard", references=3)
    assert again["references"]["origin"] == "1 trained, 2 reused"
    assert torch.get_num_threads() == before
    files = sorted(story.workspace.references.rglob("*.safetensors"))
    assert len(files) == 3
    assert len({f.read_bytes() for f in files}) == 3  # each from a start of its own

    story.forget("p2", models=("old",), method="finetune", settings=once())
    assert not story.workspace.references.exists()  # they were trained on p2


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_invalid_audits_are_refused(story: Story) -> None:
    request = story.forget("p1", models=("old",), method="finetune", settings=once())["request"]
    with pytest.raises(InputError, match="needs at least 19"):
        audited(story, request, level="full", references=2)
    with pytest.raises(InputError, match="uses no reference"):
        audited(story, request, references=2)
    with pytest.raises(InputError, match="was not made for the request"):
        audited(story, request, model="old@1")
    with pytest.raises(InputError):
        audited(story, "r-0000000000000000")
    with pytest.raises(InputError, match="no level"):
        audited(story, request, level="deep")
    (story.workspace.root / old(story).weights).unlink()
    with pytest.raises(InputError, match="no single weights file"):
        audited(story, request)


@pytest.mark.slow
def test_shards_calibrate_an_erasable_model(tmp_path: Path) -> None:
    other = Story(
        tmp_path, worlds.classification(tmp_path / "data"), "classify", shards=2, slices=1, epochs=1
    )
    other.begin()
    request = other.forget("p1")["request"]
    report = audited(other, request, model="m", level="standard")
    assert report["references"] == {"count": 2, "origin": "shards"}
    with pytest.raises(InputError, match="not exchangeable"):
        pytest.fail(audited(other, request, model="m", level="full")["verdict"])


def test_one_shard_is_the_model_itself(tmp_path: Path) -> None:
    other = Story(
        tmp_path, worlds.classification(tmp_path / "data"), "classify", shards=1, slices=1, epochs=1
    )
    other.begin()
    request = other.forget("p1")["request"]
    with pytest.raises(InputError, match="no shards that could serve"):
        audited(other, request, model="m", level="standard")


@pytest.mark.parametrize("story", ["classify"], indirect=True)
def test_probes_are_reported_and_a_page_is_written(story: Story, tmp_path: Path) -> None:
    request = story.forget("p1", models=("old",), method="finetune", settings=once())["request"]
    page = tmp_path / "page.html"
    question = AuditOptions("old", request, epochs=1, jobs=1, probes=("relearn", "int8"))
    report = audit_model(story.workspace, question, quiet(), page)
    assert report["page"] == str(page)
    assert str(page) not in Path(report["report"]).read_text()
    html = page.read_text()
    assert f"level {report['level']}" in html
    assert not re.search(r"\bp\d\b", html)
    assert not [f for f in tmp_path.rglob("*.png") if f.name in html]
    steps = [f for f in report["figures"].values() if f["name"] == "relearn_steps"]
    assert all(not f["judged"] for f in steps)
    with pytest.raises(InputError, match="no probe 'deep'"):
        audited(story, request, probes=("deep",))
    with pytest.raises(InputError, match="page cannot be written"):
        audit_model(story.workspace, question, quiet(), tmp_path / "none" / "page.html")
