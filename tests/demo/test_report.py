# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from expunge.demo import report
from expunge.demo.report_data import (
    Accuracy,
    Cell,
    Comparison,
    Cost,
    Detection,
    Found,
    PersonPicture,
    Proof,
    ReportData,
    Setting,
    Step,
)


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    picture = tmp_path / "s3_00.png"
    Image.new("RGB", (160, 160), (90, 120, 150)).save(picture)
    box = (20.0, 0.0, 60.0, 50.0)
    chain = [Cell("shard", shard, stage, 9, shard == stage == 1, "retrained" if shard == 1 else "reused")
             for shard in (0, 1) for stage in (1, 2)]  # fmt: skip
    return ReportData(
        setting=Setting("s3", "YOLO26n", 12, 2, 4, 5, "an environment <of angles>"),
        date="1 May 2030",
        interim_seconds=1.5,
        steps=(Step("Forget s3", "It was done.", 135.0),),
        pictures=(PersonPicture(picture, "s3_00", box),),
        comparisons=(Comparison(picture, "a scene", (Detection(box, 0.91),), (), (box,)),),
        found=Found(1, 1, 0),
        cells=(
            Cell("public", -1, 0, 20, False, "reused"),
            *chain,
            Cell("polish", -1, 0, 38, True, "retrained"),
        ),
        accuracy=(Accuracy("Ordinary", "stock", 0.5, None),),
        cost=Cost(0.31, 0.27, 204.0),
        proof=Proof("sha256:" + "a" * 64, None, "sha256:" + "b" * 64, True, (("replay", True, "all equal"),)),
        commands=("expunge verify detector@2 --replay",),
    )


class Page(HTMLParser):
    """Collects tags, addresses and unbalanced tags of a page."""

    VOID = frozenset({"meta", "img", "rect", "line", "circle", "link", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
        ]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)


def outside(html: str) -> list[str]:
    """Return what the page would load from elsewhere or run."""
    page = Page(html)
    found = [a for a in page.addresses if not a.startswith("data:image/")]
    found += [tag for tag in page.tags if tag in ("script", "link", "iframe", "object", "embed")]
    return found + [word for word in ("@import", "url(", "javascript:") if word in html]


def test_is_self_contained_and_well_formed(data: ReportData) -> None:
    html = report.render(data)
    page = Page(html)
    assert outside(html) == []
    assert page.unbalanced == []
    assert page.tags.count("img") == 3


def test_an_outside_picture_would_be_found() -> None:
    assert outside('<img src="a.png">') == ["a.png"]
    assert outside("<script>1</script>") == ["script"]


def test_says_what_it_was_given(data: ReportData) -> None:
    html = report.render(data)
    for text in (
        "1.5 s",
        "2 min 15 s",
        "27 %",
        "predicted 31 %",
        "0.500",
        "s3_00",
        "&lt;of angles&gt;",
        "all equal",
    ):
        assert text in html
    assert "found s3 1 times before and\n  0 times after" in html


@pytest.mark.parametrize(
    ("equal", "headline"),
    [
        (True, "is now the one that never saw them"),
        (False, "its proof FAILED"),
        (None, "was not carried out"),
    ],
)
def test_headline_follows_the_proof(data: ReportData, equal: bool | None, headline: str) -> None:
    html = report.render(replace(data, proof=replace(data.proof, equal=equal)))
    assert headline in html
    assert ("identical" in html.split("<main>")[0]) == (equal is True)


def test_map_places_every_cell_apart(data: ReportData) -> None:
    placed = report.layout(data.cells)
    assert len(placed.blocks) == len(data.cells)
    assert placed.merge is not None
    places = {(block.x, block.y) for block in (*placed.blocks, placed.merge)}
    assert len(places) == len(data.cells) + 1
    assert all(block.x + block.width <= placed.width for block in placed.blocks)
    assert all(block.y + block.height <= placed.height for block in placed.blocks)


def test_map_without_a_public_start_or_polish(data: ReportData) -> None:
    placed = report.layout(tuple(cell for cell in data.cells if cell.phase == "shard"))
    assert len(placed.blocks) == 4
    assert min(block.x for block in placed.blocks) == 0


@pytest.mark.parametrize(("value", "text"), [(1.23, "1.2 s"), (12.3, "12 s"), (125.0, "2 min 5 s")])
def test_seconds(value: float, text: str) -> None:
    assert report.seconds(value) == text
