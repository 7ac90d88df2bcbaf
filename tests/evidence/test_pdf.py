# SPDX-License-Identifier: Apache-2.0
"""The report as PDF, and the errors if the extra or Pango is not installed."""

from __future__ import annotations

import base64
import importlib.util
import io
import sys
from types import ModuleType

import pytest
from evidence.forgery import predicate
from PIL import Image

from expunge.errors import InputError
from expunge.evidence import pdf, report_page

needed = pytest.mark.skipif(
    importlib.util.find_spec("weasyprint") is None, reason="NOT TESTED: weasyprint is not installed"
)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs WeasyPrint") as caught:
        pdf.pdf_of("<p>")
    assert caught.value.exit_code == 2
    assert "expunge[pdf]" in caught.value.next_step
    assert "browser" in caught.value.next_step


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise OSError("cannot load library 'libpango-1.0-0'")

    broken = Broken("weasyprint")
    broken.__path__ = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: broken)
    monkeypatch.setitem(sys.modules, "weasyprint", broken)
    with pytest.raises(InputError, match="cannot be used here") as caught:
        pdf.pdf_of("<p>")
    assert "Pango" in caught.value.why


def test_the_page_can_be_printed() -> None:
    page = report_page.render(predicate())
    assert "@media print" in page
    assert "@page" in page


@needed
def test_a_report() -> None:
    small = io.BytesIO()
    Image.new("RGB", (160, 120), "red").save(small, "JPEG")
    picture = f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode()}"
    plain = pdf.pdf_of(report_page.render(predicate()))
    shown = pdf.pdf_of(report_page.render(predicate(), [picture]))
    for made in (plain, shown):
        assert made.startswith(b"%PDF-")
        assert made.rstrip().endswith(b"%%EOF")
    assert b"/DCTDecode" in shown, "the picture is in it"
    assert b"/DCTDecode" not in plain


@needed
def test_nothing_is_loaded_from_outside(tmp_path: object) -> None:
    small = io.BytesIO()
    Image.new("RGB", (160, 120), "red").save(small, "JPEG")
    file = tmp_path / "picture.jpg"  # type: ignore[operator]
    file.write_bytes(small.getvalue())
    assert b"/DCTDecode" not in pdf.pdf_of(f'<img src="file://{file}">')
