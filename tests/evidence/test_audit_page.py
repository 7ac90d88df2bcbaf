# SPDX-License-Identifier: Apache-2.0
"""The page of an audit: it agrees with the verdict, names nobody, and loads nothing from outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge.audits.gate import Losses, judge, judge_absence
from expunge.audits.raw_losses import RawLosses
from expunge.audits.references import PairedLosses, calibrate, judge_by_references
from expunge.audits.verdict import OUTPUTS, SAME_TENSORS, Utility, Verdict, label_of, unchanged
from expunge.errors import ExpungeError
from expunge.evidence import audit_plots, svg, verdict_text
from expunge.evidence.audit_page import render, write

FINE, BROKEN = Utility(0.9, 0.9, 0.02, "accuracy", 400), Utility(0.9, 0.3, 0.02, "accuracy", 400)


def raw_of(kept: float, *, n: int = 60, m: int = 300, references: int = 0, people: int = 0) -> RawLosses:
    """Return losses of an original that was trained on the forgotten data, and of a candidate.

    Args:
        kept: Share of the original's trace that the candidate keeps.
        n: Number of forgotten samples.
        m: Number of unseen samples.
        references: Number of reference models.
        people: Number of forgotten people; 0: one per sample.
    """
    generator = np.random.default_rng(0)

    def losses(count: int, known: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        return generator.gamma(2, 1, count) * np.exp(-3 * known) + 0.01

    forget = PairedLosses(losses(n, 1), losses(n, kept), np.stack([losses(n, 0) for _ in range(references)])
                   if references else np.zeros((0, n)))  # fmt: skip
    unseen = PairedLosses(losses(m, 0), losses(m, 0), np.stack([losses(m, 0) for _ in range(references)])
                   if references else np.zeros((0, m)))  # fmt: skip
    groups = np.arange(n) // (n // people) if people else np.arange(n)
    return RawLosses({OUTPUTS: (forget, unseen)}, groups, np.arange(m) // (10 if people else 1))


def report_of(verdict: Verdict, raw: RawLosses | None, references: int = 0) -> dict[str, Any]:
    size = (len(raw.forget_groups), len(raw.unseen_groups)) if raw else (10, 0)
    return {
        "model": "m@2", "original": "m@1", "request": "r-1", "level": verdict.level,
        "verdict": verdict.verdict, "failure": verdict.failure, "reasons": list(verdict.reasons),
        "figures": {label_of(f): f for f in verdict.figures}, "utility": verdict.utility,
        "n": {"forget": size[0], "unseen": size[1], "guard": 0},
        "references": {"count": references, "origin": f"{references} trained, 0 reused"},
    }  # fmt: skip


def judged(raw: RawLosses, level: str = "quick", utility: Utility = FINE) -> Verdict:
    forget, unseen = raw.views[OUTPUTS]
    if level == "full":
        return judge_by_references(forget, unseen, utility)
    pairs = ((forget, raw.forget_groups), (unseen, raw.unseen_groups))
    if level == "standard":
        return judge(*(calibrate(a, g) for a, g in pairs), utility, level=level)
    return judge(*(Losses(a.original, a.candidate, g) for a, g in pairs), utility)


def page_of(raw: RawLosses, level: str = "quick", utility: Utility = FINE) -> tuple[Verdict, str]:
    verdict = judged(raw, level, utility)
    return verdict, render(report_of(verdict, raw, len(raw.views[OUTPUTS][0].references)), raw)


CASES = [
    (0.0, "quick", 0, FINE, "pass", "Passed"),
    (1.0, "quick", 0, FINE, "fail", "is not forgotten"),
    (1.0, "standard", 3, FINE, "fail", "is not forgotten"),
    (-1.0, "quick", 0, FINE, "fail", "forgotten too hard"),
    (0.0, "full", 20, FINE, "pass", "Passed"),
    (1.0, "full", 20, FINE, "fail", "is not forgotten"),
    (0.0, "full", 20, BROKEN, "fail", "model is damaged"),
]


@pytest.mark.parametrize(("kept", "level", "count", "utility", "word", "headline"), CASES)
def test_the_page_agrees_with_the_verdict(
    kept: float, level: str, count: int, utility: Utility, word: str, headline: str
) -> None:
    raw = raw_of(kept, n=120, references=count)
    verdict, html = page_of(raw, level, utility)
    assert verdict.verdict == word, verdict.reasons
    assert headline in html
    assert f"level {level}" in html
    assert f"{level.capitalize()} test" in html
    assert "120" in html
    for figure in verdict.figures:
        assert f"<b>{label_of(figure)}</b>" in html
    assert ("green band" in html) == (count > 0)
    if verdict.figures and level != "standard":
        assert html.count("<svg") == 4


class Outside(HTMLParser):
    """Collect the elements and attributes by which a page would load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "img", "object", "use", "image"):
            self.found.append(tag)
        self.found += [k for k, v in attrs if k.startswith("on") or k in ("src", "href", "xlink:href")]


def test_the_page_loads_nothing_and_its_plots_are_well_formed() -> None:
    html = page_of(raw_of(0.0, references=20), "full")[1]
    parser = Outside()
    parser.feed(html)
    assert parser.found == []
    assert "url(" not in html
    for drawing in re.findall(r"<svg.*?</svg>", html, re.S):
        root = ET.fromstring(drawing)
        width, height = (float(v) for v in (root.get("viewBox") or "").split()[2:])
        for element in root.iter():
            for name, most in (("x", width), ("cx", width), ("x2", width), ("y", height), ("cy", height)):
                value = element.get(name)
                assert value is None or 0 <= float(value) <= most, (element.tag, name, value)
        assert "nan" not in drawing
        assert "inf" not in drawing
    found = Outside()
    found.feed('<img src="http://x.test/a.png"><p onclick="x()">')  # the control
    assert found.found == ["img", "src", "onclick"]


def test_people_are_numbered_not_named() -> None:
    html = page_of(raw_of(0.0, n=60, people=3))[1]
    titles = re.findall(r"<title>((?:forgotten|unseen)[^:<]*)", html)
    assert {t for t in titles if t.startswith("forgotten")} == {"forgotten 1", "forgotten 2", "forgotten 3"}
    assert {"unseen 1", "unseen 30"} <= set(titles)
    assert "of 3 people" in html


def test_of_many_people_only_some_are_drawn() -> None:
    raw = raw_of(0.0, m=900)
    html = page_of(raw)[1]
    drawing = next(d for d in re.findall(r"<svg.*?</svg>", html, re.S) if "under both models" in d)
    assert drawing.count("<circle") == 800
    unseen = audit_plots.verdict_scores(raw.views[OUTPUTS][1], "candidate", "quick")
    for k in (int(unseen.argmax()), int(unseen.argmin())):
        assert f"<title>unseen {k + 1}: {svg.number(float(unseen[k]))}</title>" in drawing
    assert "Of more than 400" in html
    assert "Of more than 400" not in page_of(raw_of(0.0))[1]


def test_a_single_forgotten_person_is_reported_as_such() -> None:
    raw = raw_of(1.0, n=1, m=30)
    verdict, html = page_of(raw)
    assert "<title>forgotten:" in html
    assert "A single forgotten sample was compared with 30 unseen ones" in html
    assert verdict.figures


def test_rates_with_too_few_false_positives_are_hidden() -> None:
    html = page_of(raw_of(1.0, m=1200))[1]
    assert html.count("Hidden: 1200 scores of others give 1.2 false positives") == 2  # at 0.1 %
    assert "at a rate of 0.01," not in html
    few = page_of(raw_of(1.0, m=200))[1]
    assert few.count("Hidden:") == 4


def test_no_power_is_explained() -> None:
    verdict, html = page_of(raw_of(1.0, n=4, m=5))
    assert verdict.verdict == "no-power"
    assert "too little data" in html
    blind = raw_of(0.0)
    forget, unseen = blind.views[OUTPUTS]
    never = PairedLosses(forget.candidate, forget.candidate, forget.references)
    verdict, html = page_of(RawLosses({OUTPUTS: (never, unseen)}, blind.forget_groups, blind.unseen_groups))
    assert verdict.verdict == "no-power"
    assert "could not have noticed" in html
    verdict, html = page_of(raw_of(0.05, n=12, m=40))
    assert (verdict.verdict, "too uncertain" in html) == ("no-power", True)


def test_constant_scores_give_no_curve() -> None:
    raw = raw_of(0.0)
    same = PairedLosses(np.full(60, 1.0), np.full(60, 1.0), np.zeros((0, 60)))
    others = PairedLosses(np.full(30, 1.0), np.full(30, 1.0), np.zeros((0, 30)))
    flat = RawLosses({OUTPUTS: (same, others)}, raw.forget_groups, np.arange(30))
    html = page_of(flat)[1]
    assert "nothing to attack by" in html
    assert "nan" not in html.split("<body>")[1]


@pytest.mark.parametrize("hits", [0, 60, 3])
def test_a_class_has_its_own_texts(hits: int) -> None:
    named = np.arange(60 if hits != 3 else 30) < hits
    verdict = judge_absence(named, FINE, original=np.ones(len(named), bool))
    html = render(report_of(verdict, None), None)
    assert verdict_text.CLASS[verdict.verdict][0] in html
    assert "<svg" not in html


def test_texts_for_a_class_never_predicted_and_for_an_unchanged_model() -> None:
    none = np.zeros(60, bool)
    blind = judge_absence(none, FINE, original=none)
    assert verdict_text.CLASS_BLIND[0] in render(report_of(blind, None), None)
    untouched = unchanged(judge_absence(none, FINE, original=~none), SAME_TENSORS)
    html = render(report_of(untouched, None), None)
    assert verdict_text.UNTOUCHED[0] in html
    assert verdict_text.CLASS["pass"][0] not in html


def test_every_case_has_its_text() -> None:
    """All texts differ, and none claims a proof."""
    texts = [verdict_text.PASS, verdict_text.NO_DATA, verdict_text.BLIND, verdict_text.UNDECIDED,
             verdict_text.CLASS_BLIND, verdict_text.UNTOUCHED,
             *verdict_text.FAILURES.values(), *verdict_text.CLASS.values()]  # fmt: skip
    assert len({t[1] for t in texts}) == len(texts)
    assert set(verdict_text.FAILURES) == {"under-forgetting", "over-forgetting", "utility"}
    assert set(verdict_text.BASIS) == set(verdict_text.HIGHER) == {"quick", "standard", "full"}
    assert not any("proves" in part for text in texts for part in text)


def test_the_page_is_written_atomically(tmp_path: Path) -> None:
    raw = raw_of(0.0)
    report = report_of(judged(raw), raw)
    write(report, raw, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == render(report, raw)
    with pytest.raises(ExpungeError):
        write(report, raw, tmp_path / "page.html" / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_figures_without_a_residual_are_left_out() -> None:
    assert audit_plots.residuals([{"name": "x", "rho": None}, {"name": "y", "rho": float("nan")}]) is None


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (float("inf"), "–"), (-4e-17, "0"), (2e-5, "2e-5"), (0.1234, "0.123")]
)
def test_numbers_are_formatted_for_display(value: float | None, text: str) -> None:
    assert svg.number(value) == text


def test_scales_clip_and_tick_at_round_values() -> None:
    plain, log = svg.Scale(-1, 1.5, 0, 100), svg.Scale(1e-3, 1, 0, 90, log=True)
    assert [plain(v) for v in (-9, -1, 0.25, 1.5, 9)] == [0, 0, 50, 100, 100]
    assert plain.ticks() == [-1, -0.5, 0, 0.5, 1, 1.5]
    assert [log(v) for v in (0, 1e-3, 1e-2, 1)] == [0, 0, 30, 90]
    assert log.ticks() == pytest.approx([1e-3, 1e-2, 1e-1, 1])
