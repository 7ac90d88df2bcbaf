# SPDX-License-Identifier: Apache-2.0
"""Human-readable page of an audit: one self-contained HTML file without scripts and without names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from expunge.audits.raw_losses import RawLosses
from expunge.audits.roc import RateAt, tpr_at
from expunge.audits.verdict import ALPHA, LEVEL, MARGIN, OUTPUTS, label_of
from expunge.errors import InputError
from expunge.evidence import audit_plots
from expunge.evidence.svg import number
from expunge.evidence.verdict_text import explain_verdict
from expunge.storage.files import write_atomically
from expunge.templating import environment

RATES = (0.01, 0.001)
DRAWN = ("distributions", "roc", "people", "residuals")
WORDS = {
    "membership_auc": "how often a forgotten sample looks better known than an unseen one",
    "loss_gap": "by how much the forgotten are fitted better than the unseen, on average",
    "confidence_gap": "by how much the model is surer of the forgotten than of the unseen",
    "worst_samples": "how far the tenth of the forgotten that sticks out most does so",
    "relearn_steps": "steps until half of the forgotten is known as well as by the original (0: known)",
    "class_named": "how often the removed class is still named",
}


def write(report: Mapping[str, Any], raw: RawLosses | None, path: Path) -> None:
    """Write the page.

    Args:
        report: As ``expunge audit --json`` prints it; ``model`` and ``request`` may be missing.
        raw: The losses that the audit measured; None: it measured none.
        path: The file to write.

    Raises:
        InputError: If the file cannot be written.
    """
    write_atomically(path, render(report, raw).encode(), "The page")


def render(report: Mapping[str, Any], raw: RawLosses | None) -> str:
    """Return the page as HTML; arguments as for :func:`write`."""
    pages = environment("expunge.evidence", {"number": number, "span": _span})
    figures = [{**f, "label": label_of(f)} for f in report["figures"].values()]
    if raw is not None:
        people = len(set(raw.forget_groups.tolist())), len(set(raw.unseen_groups.tolist()))
        n = {"forget": len(raw.forget_groups), "unseen": len(raw.unseen_groups), "people": people[0]}
    else:
        people, n = None, dict(report["n"])
    drawable = raw is not None and n["forget"] > 0 and n["unseen"] > 1
    return pages.get_template("audit.html.j2").render(
        report={"model": None, "request": None, "original": None, **report},
        plain=explain_verdict({**report, "n": n}),
        figures=figures,
        words=WORDS,
        n=n,
        people=people,
        drawn=drawn(report, raw),
        rates=_rates(raw, report["level"]) if drawable and raw is not None else [],
        most=audit_plots.MOST_MARKS,
        margin=MARGIN,
        alpha=ALPHA,
        level=LEVEL,
    )


def drawn(report: Mapping[str, Any], raw: RawLosses | None) -> dict[str, str | None]:
    """Return the plots of an audit as SVG, by the names in ``DRAWN``; None for a plot without data."""
    if raw is None or not len(raw.forget_groups) or len(raw.unseen_groups) < 2:
        return dict.fromkeys(DRAWN)
    level, figures = report["level"], [{**f, "label": label_of(f)} for f in report["figures"].values()]
    return {
        "distributions": audit_plots.distributions(raw),
        "roc": audit_plots.curve_of_rates(raw, level),
        "people": audit_plots.people(raw, level),
        "residuals": audit_plots.residuals(figures),
    }


def _rates(raw: RawLosses, level: str) -> list[dict[str, Any]]:
    """Return the true positive rates of both models, with a reason for each rate that cannot be given."""
    found = []
    for model, title, _ in audit_plots.MODELS:
        members, others = (audit_plots.verdict_scores(part, model, level) for part in raw.views[OUTPUTS])
        for rate in RATES:
            try:
                at: RateAt = tpr_at(members, others, rate)
            except InputError as error:
                found.append({"model": title, "fpr": rate, "value": None, "reason": error.what})
                continue
            found.append({"model": title, **asdict(at)})
    return found


def _span(bounds: Any) -> str:
    return "–" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"
