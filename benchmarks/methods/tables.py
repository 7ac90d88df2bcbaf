# SPDX-License-Identifier: Apache-2.0
"""Tables (Markdown, CSV) and a plot of what a suite measured."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.methods.measure import CLOSE, judged
from benchmarks.methods.plots import plot
from benchmarks.methods.row import Row
from benchmarks.methods.worlds import Suite

ORIGINAL, RETRAIN = CONTROLS = "original", "retrain"
CHEAP, FLOOR = 0.05, 1.2
Line = dict[str, Any]


def rows(lines: Sequence[Line], goal: str) -> list[Row]:
    """Return the rows of a goal: original and retrain first, then the methods, closest first."""
    results = [line for line in lines if line["kind"] == "result" and line["goal"] == goal]
    retrain = {
        seed: mean(line["seconds"] for line in lines if _reference(line, goal, seed))
        for seed in {line["seed"] for line in results}
    }
    found = []
    for name in dict.fromkeys(line["method"] for line in results):
        own = [line for line in results if line["method"] == name]
        run = [line for line in own if "passes" in line]
        floors = [line["seconds"] / line["floor_seconds"] for line in run if line.get("floor_seconds")]
        found.append(
            Row(
                name,
                goal,
                tuple(line["gaps"] for line in own if line["gaps"]),
                sum(not line["gaps"] for line in own),
                next((line["trouble"] for line in own if line.get("trouble")), ""),
                mean(line["passes"] / line["retrain_passes"] for line in run) if run else None,
                mean(line["seconds"] / retrain[line["seed"]] for line in run) if run else None,
                median(floors) if floors else None,
                own[0].get("values", {}),
            )
        )
    first = {ORIGINAL: 0, RETRAIN: 1}

    def order(row: Row) -> tuple[int, float]:
        far = max(row.ratios.values()) if row.gaps and not row.broken else float("inf")
        return first.get(row.method, 2), far

    return sorted(found, key=order)


def _reference(line: Line, goal: str, seed: int) -> bool:
    return line["kind"] == "reference" and line["goal"] == goal and line["seed"] == seed


def markdown(suite: Suite, lines: Sequence[Line], budget: float, name: str) -> str:
    """Return the tables of a suite."""
    results = [line for line in lines if line["kind"] == "result"]
    seeds = sorted({line["seed"] for line in results})
    counts: dict[str, int] = {}  # the fewest of any seed
    for goal, seed in sorted({(line["goal"], line["seed"]) for line in results}):
        found = sum(_reference(line, goal, seed) for line in lines)
        counts[goal] = min(found, counts.get(goal, found))
    references = " or ".join(map(str, sorted(set(counts.values()))))
    if len(set(counts.values())) > 1:
        references += f" ({', '.join(f'{goal} {count}' for goal, count in counts.items())})"
    tuned = sorted({seed for line in lines if line["kind"] == "tuning" for seed in line["seeds"]})
    text = [
        f"# Methods on `{suite.name}`",
        "",
        f"{suite.about[:1].upper()}{suite.about[1:]}. Seeds {', '.join(map(str, seeds))}; {references} "
        f"references for every seed and goal; budget {budget:g} of a retrain. Tuned on seeds "
        f"{', '.join(map(str, tuned))}, with as many runs for each method.",
        "",
        "Gap: candidate − mean of the references, mean over seeds; beside it in units of the gap between "
        f"references, from mean |gap| (the rule: at most {CLOSE:g}). W: Wasserstein distance between the "
        "losses of the forget set; KS: Kolmogorov–Smirnov distance (not judged). ToW: tug-of-war, 1 is best. "
        "AUC: membership by loss, 0.5 is no trace. Cost: passes and CPU seconds in units of a retrain.",
        "",
        f"![gaps and cost]({name}.png)",
        "",
    ]
    for goal in suite.goals:
        table = rows(lines, goal)
        if table:
            text += _section(goal, table)
    return "\n".join(text)


def _section(goal: str, table: list[Row]) -> list[str]:
    some = next(row for row in table if row.gaps)
    losses = "losses" in judged(goal)
    text = [
        f"## {goal}",
        "",
        f"Between references: forget {some.mean('null_forget'):.4f}, retain "
        f"{some.mean('null_retain'):.4f}, test {some.mean('null_test'):.4f}, W "
        f"{some.mean('null_losses'):.3f}, KS {some.mean('null_ks'):.3f}; "
        f"their ToW {some.mean('references_tug_of_war'):.3f}, their AUC {some.mean('references_auc'):.3f}."
        + ("" if losses else " W is not judged: a class is to be gone, not to be as if never seen."),
        "",
        "| method | close | forget gap | retain gap | test gap | W | KS | ToW | AUC | passes | seconds "
        "| fails by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        if row.broken or not row.gaps:
            text.append(f"| {row.method} | no | | | | | | | | | | {row.failures[0]} |")
            continue
        far = row.ratios
        cells = [f"{row.mean(part):+.3f} ({far[part]:.1f})" for part in ("forget", "retain", "test")]
        cells.append(f"{row.mean('losses'):.2f}" + (f" ({far['losses']:.1f})" if losses else ""))
        cells += [f"{row.mean(key):.{digits}f}" for key, digits in (("ks", 2), ("tug_of_war", 3), ("auc", 3))]
        cost = ["" if value is None else f"{value:.3f}" for value in (row.passes, row.seconds)]
        cells += [*cost, ", ".join(row.failures)]
        mark = "**yes**" if row.close else "no"
        text.append(f"| {row.method} | {mark} | {' | '.join(cells)} |")
    good = [r for r in table if r.close and r.method not in (ORIGINAL, RETRAIN)]
    cheap = [r for r in good if r.passes is not None and r.passes <= CHEAP * 1.001]
    text += ["", f"Close at ≤ {CHEAP:g} of a retrain: {', '.join(r.method for r in cheap) or '**none**'}."]
    if len(good) > len(cheap):
        text.append(f"Close, and dearer: {', '.join(r.method for r in good if r not in cheap)}.")
    for name, should in ((ORIGINAL, False), (RETRAIN, True)):
        control = next((row for row in table if row.method == name), None)
        if control is not None and control.close is not should:
            text.append(f"**The control `{name}` should {'pass' if should else 'fail'} here, and does not.**")
    return [*text, ""]


def floors(lines: Sequence[Line], goals: Sequence[str]) -> str:
    """Return a table of each method's CPU seconds over the floor of its own passes."""
    found: dict[str, list[float]] = {}
    for goal in goals:
        for row in rows(lines, goal):
            if row.floor is not None:
                found.setdefault(row.method, []).append(row.floor)
    text = [
        "## Seconds over the floor",
        "",
        "CPU seconds of the method over those of its own batches in the plainest loop (loading and forward, "
        "and for what is no look alone backward and AdamW step), measured just before and after it; median "
        "over seeds and goals. "
        f"Goal: ≤ {FLOOR:g}.",
        "",
        "| method | over the floor |",
        "|---|---|",
    ]
    order = sorted(found, key=lambda name: median(found[name]))
    return "\n".join([*text, *(f"| {name} | {median(found[name]):.2f} |" for name in order), ""])


def write(suite: Suite, lines: Sequence[Line], budget: float, folder: Path, name: str) -> None:
    """Write Markdown, CSV and plot of one budget beside the lines."""
    lines = [
        line
        for line in lines
        if line["budget"] == budget or line["kind"] == "reference" or line.get("method") in CONTROLS
    ]
    text = markdown(suite, lines, budget, name) + "\n" + floors(lines, suite.goals)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    tables = {goal: rows(lines, goal) for goal in suite.goals}
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        keys = sorted({key for table in tables.values() for row in table for gap in row.gaps for key in gap})
        out = csv.writer(file)
        out.writerow(
            ["goal", "method", "close", "fails_by", "passes", "seconds", "over_floor", "values", *keys]
        )
        for goal, table in tables.items():
            for row in table:
                figures = [f"{row.mean(key):.5f}" if row.gaps else "" for key in keys]
                costs = [f"{v:.5f}" if v is not None else "" for v in (row.passes, row.seconds, row.floor)]
                out.writerow(
                    [goal, row.method, row.close, "; ".join(row.failures), *costs, row.values, *figures]
                )
    plot(suite.name, tables, folder / f"{name}.png")
