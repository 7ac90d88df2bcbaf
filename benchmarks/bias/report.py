# SPDX-License-Identifier: Apache-2.0
"""A table of what an experiment found: means over seeds with intervals, and differences seed by seed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from scipy.stats import t

LEVEL = 0.95
Row = tuple[str, Callable[[], dict[str, Any]]]
"""What a row of a table is called, and what measures it."""


def write(name: str, experiment: ModuleType, lines: list[dict[str, Any]], folder: Path) -> Path:
    """Write ``name.md`` beside the lines.

    Args:
        name: Of the experiment.
        experiment: Its module: ``FIGURES`` are what a line holds, ``BASE`` is the row others are compared
            with, ``ABOUT`` what was done.
        lines: One for every seed and row (``who``).
        folder: Where.
    """
    rows = list(dict.fromkeys(line["who"] for line in lines))
    seeds = sorted({line["seed"] for line in lines})
    by = {(line["who"], line["seed"]): line for line in lines}
    command = f"python -m benchmarks bias --experiment {name}"
    markdown = [
        f"# bias: {name}",
        "",
        f"`{command}`, {len(seeds)} seeds. {experiment.ABOUT}",
        "",
        f"Means with {LEVEL:.0%} intervals (Student's t over seeds); Δ: difference to *{experiment.BASE}*, "
        "seed by seed.",
        "",
        "| | " + " | ".join(f"{f} | Δ" for f in experiment.FIGURES) + " |",
        "|---" * (1 + 2 * len(experiment.FIGURES)) + "|",
    ]
    for who in rows:
        cells = []
        for figure in experiment.FIGURES:
            own = {s: by[who, s][figure] for s in seeds if by.get((who, s), {}).get(figure) is not None}
            base = {s: by[experiment.BASE, s].get(figure) for s in own if (experiment.BASE, s) in by}
            change = [own[s] - base[s] for s in own if base.get(s) is not None]
            cells += [mean(list(own.values())), "" if who == experiment.BASE else mean(change, signed=True)]
        markdown.append(f"| {who} | " + " | ".join(cells) + " |")
    notes = Counter((line["who"], line["note"]) for line in lines if line.get("note"))
    if notes:
        markdown += ["", "Notes:", ""]
        markdown += [
            f"- {who}, {count} of {len(seeds)} seeds: {note}" for (who, note), count in notes.items()
        ]
    path = folder / f"{name}.md"
    path.write_text("\n".join(markdown) + "\n", encoding="utf-8")
    return path


def mean(values: list[float], *, signed: bool = False) -> str:
    """Return a mean with its interval, as people read it."""
    if not values:
        return "–"
    centre = statistics.fmean(values)
    sign = "+" if signed else ""
    if len(values) < 2:
        return f"{centre:{sign}.3f}"
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{centre:{sign}.3f} ± {half:.3f}"
