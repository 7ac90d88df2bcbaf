# SPDX-License-Identifier: Apache-2.0
"""The whole way with a model that was trained erasable: forget a list exactly, compare, certify, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import worlds
from proof import Story, train_inline

from expunge.cli.main import cli
from expunge.evidence import certificates

REASON = "Qxv-reason-4242"


def test_a_list_is_forgotten_exactly_and_the_certificate_says_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_inline(monkeypatch)
    story = Story(tmp_path, worlds.classification(tmp_path / "data"), "classify", epochs=1)
    story.begin()
    root = story.workspace.root
    (root / "settings.toml").write_text("[bias]\nminimum = 2\n")
    found, groups = tmp_path / "found.txt", tmp_path / "groups.csv"
    found.write_text("p1\ntrain/box/p2-0.png\n")
    pictures = sorted(p.relative_to(story.world.root) for p in story.world.root.glob("val/*/*.png"))
    rows = [f"{path},{('dark', 'light')[i % 2]}\n" for i, path in enumerate(pictures)]
    groups.write_text("sample,tone\n" + "".join(rows))

    def run(*words: str) -> tuple[int, dict]:
        with pytest.raises(SystemExit) as end:
            cli.main([*words, "--workspace", str(root), "--json"])
        return int(end.value.code or 0), json.loads(capsys.readouterr().out)

    code, outcome = run(
        "forget",
        "--from",
        str(found),
        "--reason",
        REASON,
        "--ground",
        "data-quality",
        "--delete-originals",
        "--yes",
    )
    assert code == 0
    assert outcome["state"] == "closed"
    assert outcome["models"][0]["guarantee"] == "exact"
    on = ("--data", "shop", "--split", "val", "--group", "tone", "--groups", str(groups), "--draws", "100")
    code, compared = run("bias", "compare", "m@1", "m@2", "--request", outcome["request"], *on)
    assert code in (0, 1)
    assert [m["model"] for m in compared["models"]] == ["m@1", "m@2"]
    said = certificates.predicate_of(Path(compared["certificate"]))
    assert said["measured"][0]["groups"] == 2
    assert said["state"] == "closed"
    code, checked = run("verify", outcome["request"])
    assert (code, checked["valid"]) == (0, True)
    code, shown = run("request", "show", outcome["request"])
    assert "data-quality" in json.dumps(shown["ground"])
    held = [p for p in root.rglob("*") if p.is_file() and REASON.encode() in p.read_bytes()]
    assert held == []
