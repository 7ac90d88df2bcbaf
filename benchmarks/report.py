# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures from the JSON lines of the frontier: ``python -m benchmarks.report``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.configs import SUITES
from benchmarks.harness import median, records, spread
from benchmarks.tables import AGGREGATION_HEAD, INTERIM_HEAD, aggregation_table, cost_table, interim_table

KEPT_AT_LEAST = 0.9
GAIN_AT_LEAST = 0.02  # a private gain below this is noise: there is nothing of which to keep a share
GOAL_COST, GOAL_LOSS = 0.10, 0.01
PRICES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # marks on the picture's axis
HEAD = """# Accuracy of erasable training against the price of an erasure

Median (range) over seeds. Configurations were declared before they ran (`benchmarks/grid.py`), on seeds and
with epochs on which nothing was tuned; the frontier is chosen on validation, figures are of the test split.
`python -m benchmarks frontier --task detect` and `--task classify` (`--grid more`, `--grid combined`), then
`python -m benchmarks report`.

![frontier](frontier.png)

"""


@dataclass
class Row:
    """A configuration over its seeds; every figure is a list with one entry per seed.

    Attributes:
        name: Of the configuration.
        config: Its settings.
        test: The metric on the test split.
        kept: (accuracy − public only) / (ordinary − public only); empty if the gain is below noise.
        loss: Ordinary − accuracy.
        val_kept, val_loss: The same on the validation split, by which configurations are chosen.
        of_plan: Expected image passes of one erasure over those of retraining the same plan.
        of_passes: The same over those of the ordinary training.
        of_ordinary: Expected CPU seconds of one erasure over those of the ordinary training; a seed is left
            out whose ordinary training was not timed on the same machine.
        training: CPU seconds of the erasable training over those of the ordinary training.
    """

    name: str
    config: dict[str, Any]
    test: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    val_kept: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    of_plan: list[float] = field(default_factory=list)
    of_passes: list[float] = field(default_factory=list)
    of_ordinary: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)


def latest(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines without those that a later run has measured again."""
    last = {(r["name"], r["seed"]): r.get("run", 1) for r in sorted(lines, key=lambda r: r.get("run", 1))}
    return [r for r in lines if r.get("run", 1) == last[r["name"], r["seed"]]]


def best_ordinary(lines: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return for each seed the ordinary training with the best test metric."""
    best: dict[int, dict[str, Any]] = {}
    for line in lines:
        if line["kind"] == "ordinary":
            known = best.get(line["seed"])
            if known is None or line["test"] > known["test"]:
                best[line["seed"]] = line
    return best


def seconds_of(lines: list[dict[str, Any]], line: dict[str, Any], top: dict[str, Any]) -> float | None:
    """Return what the ordinary training took in a line's own run, if it ran there; machines differ."""
    run = line.get("run", 1)
    for other in lines:
        if (other["name"], other["seed"], other.get("run", 1)) == (top["name"], top["seed"], run):
            return float(other["cpu_seconds"])
    return None


def best_public(lines: list[dict[str, Any]], split: str = "test") -> dict[tuple[str, int], float]:
    """Return the best public-only accuracy for each share of public data and seed."""
    best: dict[tuple[str, int], float] = {}
    for line in lines:
        if line["kind"] == "erasable":
            key = line["config"]["public"], line["seed"]
            best[key] = max(best.get(key, 0.0), line[f"public_{split}"])
    return best


def rows(lines: list[dict[str, Any]]) -> list[Row]:
    """Return one row for each configuration, cheapest erasure first."""
    everything, lines = lines, latest(lines)
    ordinary = best_ordinary(lines)
    public = {split: best_public(lines, split) for split in ("test", "val")}
    table: dict[str, Row] = {}
    for line in lines:
        seed = line["seed"]
        if line["kind"] != "erasable" or seed not in ordinary:
            continue
        row = table.setdefault(line["name"], Row(line["name"], line["config"]))
        top = ordinary[seed]
        row.test.append(line["test"])
        for split, kept, loss in (("test", row.kept, row.loss), ("val", row.val_kept, row.val_loss)):
            low = public[split][line["config"]["public"], seed]
            if top[split] - low >= GAIN_AT_LEAST:
                kept.append((line[split] - low) / (top[split] - low))
            loss.append(top[split] - line[split])
        row.of_plan.append(line["erase_passes"] / line["passes"])
        row.of_passes.append(line["erase_passes"] / top["passes"])
        if seconds := seconds_of(everything, line, top):
            row.of_ordinary.append(line["erase_cpu_seconds"] / seconds)
            row.training.append(line["cpu_seconds"] / seconds)
    return sorted(table.values(), key=lambda r: median(r.of_passes))


def counts(row: Row, split: str = "test") -> bool:
    """Whether a configuration keeps enough of what the private data gives to count at all."""
    kept = row.kept if split == "test" else row.val_kept
    return bool(kept) and median(kept) >= KEPT_AT_LEAST


def frontier(table: list[Row]) -> list[Row]:
    """Return the rows that count and that no cheaper one beats in accuracy lost; judged on validation."""
    best: list[Row] = []
    for row in table:
        if counts(row, "val") and (not best or median(row.val_loss) < median(best[-1].val_loss)):
            best.append(row)
    return best


def settings(config: dict[str, Any]) -> str:
    """Return a configuration in a few words."""
    parts = [
        f"S={config['shards']}",
        f"E={'+'.join(map(str, config['stages']))}",
        f"public {config['public']}",
    ]
    parts.append(f"{config['public_epochs']} ep")
    if config["replay"]:
        parts.append("replay")
    if config["freeze"]:
        parts.append(f"freeze {config['freeze']}")
    if config["shard_lr"]:
        parts.append(f"shard lr {config['shard_lr']:g}")
    if config["polish"]:
        parts.append(f"polish {config['polish']} @ {config['polish_lr']:g}")
    if config["mosaic"]:
        parts.append("mosaic")
    if config["anneal"] != "stage":
        parts.append("phase anneal")
    if config["risk"]:
        parts.append(f"risk {config['risk']:.0%}")
    if config.get("aggregate", "average") != "average":
        parts.append(config["aggregate"])
    return ", ".join(parts)


def markdown(task: str, lines: list[dict[str, Any]]) -> str:
    """Return the section of one task."""
    suite, table = SUITES[task], rows(lines)
    lines = latest(lines)
    ordinary, public = best_ordinary(lines), best_public(lines)
    chosen = frontier(table)
    seeds = ", ".join(map(str, sorted(ordinary)))
    text = [f"## {task}: {suite.weights}, {suite.imgsz} px, test {suite.metric}, seeds {seeds}", ""]
    text += ["| baseline | CPU s | test | seeds |", "|---|---|---|---|"]
    names = dict.fromkeys(line["name"] for line in lines if line["kind"] == "ordinary")
    for name in names:
        same = [line for line in lines if line["name"] == name]
        cpu, test = ([line[k] for line in same] for k in ("cpu_seconds", "test"))
        text.append(f"| {name} | {spread(cpu, 0)} | {spread(test)} | {len(same)} |")
    for share in sorted({key[0] for key in public}):
        values = [value for (s, _), value in public.items() if s == share]
        text.append(f"| public data only ({share}), best | | {spread(values)} | {len(values)} |")
    text += [
        "",
        "Ordinary = the best of the lines above for each seed. Bold: on the frontier by validation.",
        "",
    ]
    text.append(
        "| configuration | test | points lost | kept | kept (val) | erasure / own retrain (passes) "
        "| erasure / ordinary (passes) | erasure / ordinary (CPU) | training / ordinary (CPU) | seeds |"
    )
    text.append("|---|---|---|---|---|---|---|---|---|---|")
    for row in table:
        mark = "**" if row in chosen else ""
        lost = [100 * value for value in row.loss]
        kept = (spread(row.kept, 2) if row.kept else "–") + ("" if counts(row) else " ✗")
        kept_val = spread(row.val_kept, 2) if row.val_kept else "–"
        text.append(
            f"| {mark}{settings(row.config)}{mark} | {spread(row.test)} | {spread(lost, 1)} "
            f"| {kept} | {kept_val} | {spread(row.of_plan)} | {spread(row.of_passes)} "
            f"| {spread(row.of_ordinary)} | {spread(row.training, 2)} | {len(row.test)} |"
        )
    reached = ", ".join(settings(row.config) for row in table if reaches(row))
    text += [
        "",
        f"✗ keeps less than {KEPT_AT_LEAST} of what the private data gives: does not count. "
        f"– : the private data gives less than {100 * GAIN_AT_LEAST:.0f} points over the public data alone.",
        "",
        f"Goal (erasure ≤ {GOAL_COST} of an ordinary training, ≤ 1 point lost, {KEPT_AT_LEAST} kept; on "
        f"test, median over seeds): {reached or 'not reached'}.",
        "",
    ]
    return "\n".join(text)


def reaches(row: Row) -> bool:
    """Whether a configuration reaches the goal on the test split."""
    cheap = all(median(prices) <= GOAL_COST for prices in (row.of_passes, row.of_ordinary) if prices)
    return cheap and median(row.loss) <= GOAL_LOSS and counts(row)


def plot(tasks: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw points lost and gain kept against the price of an erasure, a column for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, len(tasks), figsize=(7 * len(tasks), 9), squeeze=False, sharex="col")
    for column, (task, lines) in enumerate(tasks.items()):
        table = rows(lines)
        lost, kept = panels[0][column], panels[1][column]
        top = max(100 * value for row in table for value in row.loss)
        _scatter(lost, table, lambda row: [100 * value for value in row.loss], (-1.5, 1.1 * top))
        _scatter(kept, [row for row in table if row.kept], lambda row: row.kept, (-0.2, 1.25))
        lost.axhspan(-1.5, 100 * GOAL_LOSS, color="#0a7f5a", alpha=0.08, lw=0)
        kept.axhspan(KEPT_AT_LEAST, 1.25, color="#0a7f5a", alpha=0.08, lw=0)
        lost.set(title=f"{task}: test {SUITES[task].metric}", ylabel="points lost against ordinary training")
        kept.set(ylabel="share kept of what the private data gives")
        kept.set_xlabel("expected cost of one erasure / ordinary training (image passes)")
    figure.suptitle(
        "green: frontier by validation; grey: does not count on test; shaded: goals; bars: range over seeds"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def _scatter(
    axes: Any, table: list[Row], value: Callable[[Row], list[float]], limits: tuple[float, float]
) -> None:
    edge = frontier(table)
    for row in table:
        x, values = median(row.of_passes), value(row)
        y = median(values)
        colour = "#0a7f5a" if row in edge else "#4a6fa5" if counts(row) else "#9a9a9a"
        bars = [[y - min(values)], [max(values) - y]]
        axes.errorbar(x, y, yerr=bars, fmt="o", color=colour, capsize=3, ms=6)
        axes.annotate(
            row.name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, annotation_clip=True
        )
    axes.axvline(GOAL_COST, color="#0a7f5a", lw=1, ls=":")
    axes.set(xscale="log", ylim=limits)
    axes.set_xticks(PRICES, [f"{price:g}" for price in PRICES])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.15)
    axes.grid(alpha=0.25)


def main() -> None:
    """Write the tables and the picture beside the JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    folder = parser.parse_args().results
    tasks = {task: records(folder / f"frontier_{task}.jsonl") for task in SUITES}
    tasks = {task: lines for task, lines in tasks.items() if rows(lines)}
    if tasks:
        text = HEAD + "\n".join(markdown(task, lines) for task, lines in tasks.items())
        (folder / "frontier.md").write_text(text, encoding="utf-8")
        plot(tasks, folder / "frontier.png")
    interim = {task: records(folder / f"interim_{task}.jsonl") for task in SUITES}
    if any(interim.values()):
        parts = [interim_table(task, lines) for task, lines in interim.items() if lines]
        (folder / "interim_accuracy.md").write_text(INTERIM_HEAD + "\n".join(parts), encoding="utf-8")
    merged = {task: records(folder / f"aggregation_{task}.jsonl") for task in SUITES}
    if any(merged.values()):
        parts = [aggregation_table(task, lines) for task, lines in merged.items() if lines]
        (folder / "aggregation.md").write_text(AGGREGATION_HEAD + "\n".join(parts), encoding="utf-8")
    if costs := records(folder / "cost.jsonl"):
        (folder / "cost.md").write_text(cost_table(costs), encoding="utf-8")


if __name__ == "__main__":
    main()
