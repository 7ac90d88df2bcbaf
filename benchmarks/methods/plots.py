# SPDX-License-Identifier: Apache-2.0
"""One picture of a suite: how far each method is from the references, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.methods.measure import CLOSE

if TYPE_CHECKING:
    from benchmarks.methods.row import Row

FIGURES = {"forget": "#b5482a", "losses": "#d9a441", "retain": "#4a6fa5", "test": "#7a9e7e"}
MOST = 60.0
LEAST = 0.1


def plot(name: str, tables: dict[str, list[Row]], path: Path) -> None:
    """Draw for every goal the judged gaps of each method in units of the gap between references."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tables = {goal: [row for row in table if row.gaps] for goal, table in tables.items() if table}
    width, tallest = min(len(tables), 2), max(len(table) for table in tables.values())
    height = -(-len(tables) // width)
    figure, panels = pyplot.subplots(
        height, width, figsize=(8 * width, (0.3 * tallest + 1.4) * height), squeeze=False
    )
    for axes, (goal, table) in zip(panels.flat, tables.items(), strict=False):
        _draw(axes, goal, table)
    for axes in list(panels.flat)[len(tables) :]:
        axes.axis("off")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"{name}: gap to retrained references over the gap between references; shaded: close "
        f"(≤ {CLOSE:g}); bold: close in every figure; right: passes in units of a retrain",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0.03, 1, 0.98))
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _draw(axes: Any, goal: str, table: list[Row]) -> None:
    axes.axvspan(LEAST, CLOSE, color="#0a7f5a", alpha=0.1, lw=0)
    for place, row in enumerate(table):
        far = row.ratios
        axes.plot([LEAST, min(max(far.values()), MOST)], [place, place], color="#cccccc", lw=1, zorder=1)
        for figure, value in far.items():
            beyond = value > MOST
            axes.scatter(
                min(max(value, LEAST), MOST),
                place,
                color=FIGURES[figure],
                marker=">" if beyond else "o",
                s=38,
                zorder=3,
                label=figure if place == 0 else None,
            )
        if row.passes is not None:
            axes.text(MOST * 1.15, place, f"{row.passes:.3f}", va="center", fontsize=8, color="#555555")
    axes.set_yticks(range(len(table)), [row.method for row in table], fontsize=9)
    for label, row in zip(axes.get_yticklabels(), table, strict=True):
        label.set_fontweight("bold" if row.close else "normal")
    axes.set(xscale="log", xlim=(LEAST * 0.9, MOST * 1.1), title=goal)
    axes.set_xticks([0.1, 0.5, 1, 2, 5, 10, 20, 50], ["≤0.1", "0.5", "1", "2", "5", "10", "20", "≥50"])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
