# SPDX-License-Identifier: Apache-2.0
"""Count the verdicts on each candidate, with exact bounds, and compare them with the targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.audits.fakes import KEPT, LOST, TRUE
from expunge.audits.scores import clopper_pearson

FALSE_ALARM = 0.05  # one-sided 95 % upper bound on how often a true retrain is failed
MISSED = 4 / 200  # share of trials in which what did not forget may pass, or be called undecided
UPPER = 0.90  # a two-sided interval at this level has the one-sided 95 % bounds


def summary(lines: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return a table in Markdown, and which targets were missed.

    Where the original showed no trace the verdict is ``no-power`` for every candidate: such trials are
    counted separately, since they do not show the verdict of an audit with power.
    """
    rows = [
        "| candidate | trials | pass | fail | no-power | wrong, one-sided 95 % upper bound |",
        "|---|---|---|---|---|---|",
    ]
    missed = []
    for name in (*TRUE, *KEPT, *LOST):
        words = Counter(line["candidates"][name]["verdict"] for line in lines)
        n = sum(words.values())
        if not n:
            continue
        # What did not forget counts as missed when it is called undecided, like when it passes; of what
        # forgot too much only a pass is wrong.
        wrong = words["fail"] if name in TRUE else words["pass"] if name in LOST else n - words["fail"]
        upper = clopper_pearson(wrong, n, UPPER)[1]
        rows.append(
            f"| {name} | {n} | {words['pass']} | {words['fail']} | {words['no-power']} "
            f"| {wrong}/{n}: ≤ {100 * upper:.1f} % |"
        )
        if name in TRUE and upper > FALSE_ALARM:
            missed.append(f"{name}: failed in {wrong} of {n}, the bound {upper:.3f} is above {FALSE_ALARM}")
        if name not in TRUE and wrong > MISSED * n:
            missed.append(f"{name}: not caught in {wrong} of {n}, more than {MISSED:.0%}")
    blind = sum(_blind(line) for line in lines)
    seconds = [sum(line[f"{part}_cpu_seconds"] for line in lines) for part in ("training", "audit")]
    rows += [
        "",
        f"Trials in which the original showed no trace: {blind} of {len(lines)}. CPU seconds: training "
        f"{seconds[0]:.0f}, audits {seconds[1]:.0f}.",
        "",
        "\n".join(f"**Target missed.** {text}." for text in missed) or "All targets reached.",
    ]
    return "\n".join(rows), missed


def _blind(line: dict[str, Any]) -> bool:
    figures = line["candidates"]["untouched"]["figures"]
    return any(f["view"] == "outputs" and not f["power"] for f in figures)
