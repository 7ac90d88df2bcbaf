# SPDX-License-Identifier: Apache-2.0
"""The report: no personal data, nothing loaded from outside, and no claims beyond the certificate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from evidence.forgery import number, predicate
from PIL import Image

from expunge.errors import InputError
from expunge.evidence import report_page, statement
from expunge.evidence.certificates import predicate_of
from expunge.workspace import Workspace


def test_an_exact_erasure() -> None:
    page = report_page.render(predicate())
    assert statement.GUARANTEES["exact"] in page.replace("&#39;", "'")
    assert "m@1" in page
    assert "3 of 12 samples were taken out of" in page
    assert "answer due" in page
    assert "forgotten the rows" in page
    for words in statement.NOT_COVERED:
        assert words in page.replace("&#39;", "'")
    assert "Art. 19" in page
    assert "<img" not in page
    assert "The pictures" not in page


def test_nothing_from_outside() -> None:
    page = report_page.render(predicate(), ["data:image/jpeg;base64,AAAA"])
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_no_wording_claims_a_proof() -> None:
    """Neither the report nor the guarantees claim that an approximate method was shown to forget all."""
    body = predicate()
    audit = {
        "method": "scrub",
        "reasons": ["No difference above 0.25."],
        "warnings": [],
        "figures": [{"name": "mia", "value": 0.51, "low": 0.44, "n": None}],
        "utility": {},
        "hyperparameters": {},
        "seed": 0,
        "seconds": 1.0,
        "tried": [],
    }
    body["models"][0].update(guarantee="audited", verdict="no-power", audit=audit, plan=None, interim=None)
    body.update(state="running")
    page = report_page.render(body)
    assert "This does not show that nothing is left." in page
    assert "no-power" in page
    assert "0.51" in page
    assert "not finished" in page
    for sentence in (page, *statement.GUARANTEES.values()):
        assert not re.search(r"proves? that|has forgotten everything|guaranteed to have", sentence)


def test_markup_is_escaped() -> None:
    body = predicate()
    body["models"][0]["model"] = '<script>alert("x")</script>'
    assert "<script" not in report_page.render(body)


def test_pictures_are_shown_without_their_names(tmp_path: Path) -> None:
    image = tmp_path / "anna-with-a-name.png"
    Image.new("RGB", (400, 300), "red").save(image)
    (tmp_path / "label.txt").write_text("0 0.5 0.5 1 1")
    shown = list(report_page._pictures([image, tmp_path / "label.txt", tmp_path / "gone.png"]))
    assert len(shown) == 1
    assert shown[0].startswith("data:image/jpeg;base64,")
    assert "anna-with-a-name" not in report_page.render(predicate(), shown)
    assert "None of them is there any more" in report_page.render(predicate(), [])


def test_a_report_needs_a_certificate(tmp_path: Path) -> None:
    workspace = Workspace.init(tmp_path)
    with pytest.raises(InputError, match="no request"):
        report_page.write(workspace, "r-00000000000000aa", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
    (tmp_path / "x.json").write_text('{"models": []}')
    with pytest.raises(InputError, match="not a certificate"):
        predicate_of(tmp_path / "x.json")
    assert number("x")
