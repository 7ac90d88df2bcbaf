# SPDX-License-Identifier: AGPL-3.0-or-later
"""Group attributes are personal data: erased with the person, and in no certificate, log or error."""

from __future__ import annotations

from pathlib import Path

import pytest
from bias_world import SECRET, Grouped, grouped
from proof import once, quiet

from expunge.bias.measure import MeasureOptions, compare
from expunge.bias.record import record_comparison
from expunge.bias.workspace_groups import record_search
from expunge.erasure import execution
from expunge.erasure.intake import show
from expunge.errors import InputError
from expunge.evidence import certificates, report_page, verifier
from expunge.unlearning.result import Result

NOTE = "Zyx-note-7777"


def holding(root: Path, word: str) -> list[Path]:
    """The files below a folder with these bytes in them."""
    return [p for p in root.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grouped:
    """A workspace in which one person of a marked group was forgotten, and the request closed."""
    made = grouped(tmp_path, "classify", people=11, each=1)
    (tmp_path / "subjects.csv").unlink()
    assert holding(made.workspace.root, SECRET)  # the control: it is there to be forgotten
    monkeypatch.setattr(Result, "sound", True)
    ask = execution.ErasureRequest(
        subjects=["train-only"], method="finetune", settings=once(), delete_originals=True
    )
    outcome = execution.forget(
        made.workspace, ask, quiet(), ground="data-quality", note=f"{NOTE}: labels of train-only were wrong"
    )
    assert outcome["state"] == "closed"
    made.request = outcome["request"]  # type: ignore[attr-defined]
    return made


def test_attributes_go_with_the_person(world: Grouped, tmp_path: Path) -> None:
    workspace, request = world.workspace, world.request  # type: ignore[attr-defined]
    question = MeasureOptions("shop", ("tone", "age"), draws=100)
    path = record_comparison(workspace, request, compare(workspace, ["m@1", "m@2"], question))
    assert holding(workspace.root, SECRET) == []
    assert holding(workspace.root, NOTE) == []
    shown = show(workspace, request)
    assert "data-quality" in str(shown["ground"])

    # The certificate says what was measured, and nothing of what the groups are.
    payload = certificates.read(path).payload.decode()
    said = certificates.predicate_of(path)["measured"][0]
    assert said["models"] == ["m@1", "m@2"]
    assert said["attributes"] == 2
    assert said["groups"] + said["groups_without_figure"] == 4
    assert said["worst"][0]["value"] is not None
    assert "do not say that a model is fair" in said["says"]
    for word in ("tone", "dark", "light", "rare", "young", '"age"', "train-only"):
        assert word not in payload
    assert verifier.verify(workspace, request, verifier.VerifyOptions(), quiet())["valid"]
    page = report_page.write(workspace, request, tmp_path / "report.html").read_text()
    assert "What was measured by group" in page
    assert "dark" not in page

    # Measured again, it is said once.
    record_comparison(workspace, request, compare(workspace, ["m@1", "m@2"], question))
    assert len(certificates.predicate_of(path)["measured"]) == 1


def test_what_cannot_be_certified(world: Grouped) -> None:
    workspace, request = world.workspace, world.request  # type: ignore[attr-defined]
    found = compare(workspace, ["m@1", "m@1"], MeasureOptions("shop", ("tone",), draws=100))
    with pytest.raises(InputError, match="None of these models"):
        record_comparison(workspace, request, found)
    split = compare(workspace, ["m@1", "m@2"], MeasureOptions("shop", ("tone",), draws=100))
    split["models"][0]["worst"] = None
    with pytest.raises(InputError, match="no figure to certify"):
        record_comparison(workspace, request, split)
    with pytest.raises(InputError):
        record_comparison(workspace, "r-0000000000000000", found)
    searched = compare(workspace, ["m@1", "m@2"], MeasureOptions("shop", ("tone",), split="val", draws=100))
    record_search(workspace, "shop", "val")
    with pytest.raises(InputError, match="what finds never judges"):
        record_comparison(workspace, request, searched)


def test_an_unknown_ground_changes_nothing(tmp_path: Path) -> None:
    made = grouped(tmp_path, "classify", people=2, each=1)
    with pytest.raises(InputError):
        execution.forget(
            made.workspace, execution.ErasureRequest(subjects=["train-d0"]), quiet(), ground="whim"
        )
    with made.workspace.session() as session:
        from expunge.catalog.dataset_store import get_version

        assert get_version(session, "shop").number == 1
