# SPDX-License-Identifier: Apache-2.0
"""Explanations of an audit's verdict for readers without statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.audits.verdict import OUTPUTS, UNCHANGED


@dataclass(frozen=True)
class Explanation:
    """An explanation of a verdict.

    Attributes:
        headline: The verdict in one line.
        meaning: The finding, and its limits.
        basis: The data that the test compared, and its assumptions.
        advice: The next step.
        mood: ``good``, ``bad`` or ``open``.
    """

    headline: str
    meaning: str
    basis: str
    advice: str
    mood: str


PASS = (
    "Passed: no trace above the limit was found.",
    "In the model before, this test could tell the forgotten data from data that the model never saw. In "
    "the new model the same test finds at most a quarter of that trace, in either direction, and the model "
    "is as useful as was asked for. That does not prove that nothing is left: it says that what is left is "
    "below this limit.",
    "Keep this page with the request. Withdraw the earlier model wherever it runs.",
    "good",
)
FAILURES = {
    "under-forgetting": (
        "Failed: the data is not forgotten.",
        "The new model still treats the forgotten data like data that it was trained on: more than a "
        "quarter of the trace that the model before showed is left.",
        "Do not hand this model out as the answer to the request. Take a stronger method, or train again "
        "without the data.",
        "bad",
    ),
    "over-forgetting": (
        "Failed: it was forgotten too hard.",
        "The new model does worse on the forgotten data than on data that it never saw. A model that was "
        "never trained on it would not: so the data still stands out, and whoever looks can tell that "
        "something was done about it.",
        "Do not hand this model out. Take a gentler setting of the method, or train again without the data.",
        "bad",
    ),
    "utility": (
        "Failed: the model is damaged.",
        "It is worse at its work than was allowed ({name}: {before} before, {after} now). A model that has "
        "lost everything seems to have forgotten anybody, so nothing else was judged.",
        "Go back to the model before, and take a gentler method, or train again without the data.",
        "bad",
    ),
}
NO_DATA = (
    "No verdict: there is too little data to tell.",
    "With {forget} forgotten and {unseen} unseen samples no test of this kind can reach a conclusion. This "
    "is neither a pass nor a failure.",
    "Bring in data of at least 19 people (or samples) that no model was trained on, twice as many as were "
    "forgotten if those are few. A training without the data needs no test at all.",
    "open",
)
BLIND = (
    "No verdict: this test could not have noticed.",
    "Not even in the model before, which was trained on the forgotten data, could this test tell it from "
    "data that the model never saw. So it says nothing about the new model. This is not a pass. Perhaps "
    "the data was never known by heart; perhaps the test is too weak to see it.",
    "{higher}A training without the data needs no test at all.",
    "open",
)
UNDECIDED = (
    "No verdict: the result is too uncertain.",
    "The test could tell the forgotten data in the model before. How much of that trace is left in the new "
    "model it cannot say narrowly enough: what is plausible reaches beyond the limit of a quarter. This is "
    "not a pass.",
    "More unseen people narrow it. {higher}A training without the data needs no test at all.",
    "open",
)
BASIS = {
    "quick": "Quick test: no other model was trained for it. It compares the forgotten data with data that "
    "no model ever saw, and it holds as far as the two are alike in everything but the training.",
    "standard": "Standard test: it compares the forgotten data with data that no model ever saw, and takes "
    "out how hard each sample is by {references} that were trained without the forgotten data. It holds as "
    "far as the forgotten and the unseen people are alike in everything but the training.",
    "full": "Full test: it compares the new model with {references} that were trained again without the "
    "forgotten data. It does not depend on how forgotten and unseen data compare; it relies on those "
    "models having been trained as the original was.",
}
HIGHER = {
    "quick": "The level standard, with a few models trained for comparison, sees more. ",
    "standard": "The level full, with 19 models trained for comparison, sees more. ",
    "full": "",
}
CLASS = {
    "pass": (
        "Passed: the class is gone.",
        "On data that shows the removed class, the new model names it so rarely that the rate is below the "
        "limit of 5 %, and it does the rest of its work as was asked for.",
        "Keep this page with the request. Withdraw the earlier model wherever it runs.",
        "good",
    ),
    "fail": (
        "Failed: the class is still there.",
        "On data that shows the removed class, the new model names it more often than the limit of 5 % "
        "allows.",
        "Take a stronger method, or train again without the class.",
        "bad",
    ),
    "no-power": (
        "No verdict: there is too little data to tell.",
        "The class is seldom named, but on so few samples that its true rate may be above the limit of 5 %. "
        "This is not a pass.",
        "Bring in more data that shows the class, or train again without it.",
        "open",
    ),
}
CLASS_BLIND = (
    "No verdict: this test could not have noticed.",
    "Not even the model before, which was trained on the class, names it often enough to be told from one "
    "that does not know it. So it means nothing that the new model does not name it. This is not a pass.",
    "Bring in more data that shows the class, or train again without it.",
    "open",
)
UNTOUCHED = (
    "Failed: nothing was changed.",
    "The new model is the model before, number by number. Whatever that one knows, this one knows.",
    "Take another method or a larger budget, or train again without the data.",
    "bad",
)
UNTOUCHED_BASIS = "The numbers of both models were compared; there was nothing to measure."
CLASS_BASIS = (
    "The removal of a class is judged by whether it is still named, not by a comparison with other data."
)
ONE = (
    " A single forgotten {unit} was compared with {null} unseen ones: it can only be said to stand out "
    "among them or not, and with fewer than 19 of them not even that."
)


def explain_verdict(report: Mapping[str, Any]) -> Explanation:
    """Return the explanation of a report's verdict.

    Args:
        report: As ``expunge audit --json`` prints it.
    """
    figures = list(report["figures"].values())
    if report["verdict"] == "fail" and report["reasons"] and report["reasons"][0].startswith(UNCHANGED):
        headline, meaning, advice, mood = UNTOUCHED
        return Explanation(headline, meaning, UNTOUCHED_BASIS, advice, mood)
    named = [f for f in figures if f["name"] == "class_named"]
    if report["failure"] != "utility" and named:
        blind = report["verdict"] == "no-power" and not named[0].get("power", True)
        headline, meaning, advice, mood = CLASS_BLIND if blind else CLASS[report["verdict"]]
        return Explanation(headline, meaning, CLASS_BASIS, advice, mood)
    headline, meaning, advice, mood = _case(report, figures)
    utility, count = report["utility"], report["references"]["count"]
    values = {
        "forget": report["n"]["forget"],
        "unseen": report["n"]["unseen"],
        "higher": HIGHER[report["level"]],
        "references": f"{count} model{'' if count == 1 else 's'}",
        "name": utility.get("name"),
        "before": _short(utility.get("before")),
        "after": _short(utility.get("after")),
    }
    basis = BASIS[report["level"]].format(**values)
    if report["n"].get("people", report["n"]["forget"]) == 1 and report["level"] != "full" and figures:
        unit = "sample" if report["n"]["forget"] == 1 else "person"
        basis += ONE.format(unit=unit, null=figures[0]["n_null"])
    return Explanation(headline, meaning.format(**values), basis, advice.format(**values), mood)


def _case(report: Mapping[str, Any], figures: list[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    """Return headline, meaning, advice and mood for a verdict that does not concern a class."""
    if report["verdict"] == "pass":
        return PASS
    if report["verdict"] == "fail":
        return FAILURES[report["failure"]]
    judged = [f for f in figures if f["judged"] and f["view"] == OUTPUTS]
    if not judged:
        return NO_DATA
    return UNDECIDED if all(f["power"] for f in judged) else BLIND


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
