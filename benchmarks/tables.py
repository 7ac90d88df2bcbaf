# SPDX-License-Identifier: Apache-2.0
"""Smaller tables: the interim model, other aggregations, what training and forgetting cost."""

from __future__ import annotations

from typing import Any

from benchmarks.configs import SUITES
from benchmarks.harness import median, spread

INTERIM_HEAD = """# Accuracy of the interim model

`python -m benchmarks interim_accuracy --task classify` (and `detect`), then `python -m benchmarks report`.
A case is one person in one shard, over all seeds; one case of each position and seed was also repaired.

"""
AGGREGATION_HEAD = """# Other exact ways to make one model of the same shards

`python -m benchmarks aggregation --task classify` (and `detect`), then `python -m benchmarks report`. Median
(range) over seeds; what has a strength is chosen on validation, figures are of the test split.

"""


def interim_table(task: str, lines: list[dict[str, Any]]) -> str:
    """Return what the interim models of a task lose until the repair."""
    seeds = ", ".join(map(str, sorted({r["seed"] for r in lines})))
    text = [
        f"## {task}: test {SUITES[task].metric}, seeds {seeds}",
        "",
        "| S | R | position | cases | before | interim | points lost, median (worst) "
        "| chosen: with the earlier checkpoint | after the repair: points lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((r["shards"], r["slices"], r["position"]) for r in lines):
        same = [r for r in lines if (r["shards"], r["slices"], r["position"]) == key]
        lost = [100 * (r["before"] - r["interim"]) for r in same]
        after = [100 * (r["before"] - r["after"]) for r in same if r["after"] is not None]
        include = sum(r["chosen"] == "include" for r in same)
        text.append(
            f"| {key[0]} | {key[1]} | {key[2]} | {len(same)} | {median([r['before'] for r in same]):.3f} "
            f"| {median([r['interim'] for r in same]):.3f} | {median(lost):.1f} ({max(lost):.1f}) "
            f"| {include} of {sum(r['include'] is not None for r in same)} | {spread(after, 1)} |"
        )
    return "\n".join(text) + "\n"


def aggregation_table(task: str, lines: list[dict[str, Any]]) -> str:
    """Return what each way of putting the shards together scored, and what it gained over averaging."""
    seeds = ", ".join(map(str, sorted({r["seed"] for r in lines})))
    text = [
        f"## {task}: test {SUITES[task].metric}, seeds {seeds}",
        "",
        "| shards | how | strengths chosen | test | points over averaging |",
        "|---|---|---|---|---|",
    ]
    base = {(r["name"], r["seed"]): r["test"][""] for r in lines if r["how"] == "average"}
    for name, how in dict.fromkeys((r["name"], r["how"]) for r in lines):
        same = [r for r in lines if (r["name"], r["how"]) == (name, how)]
        test = [r["test"][r["chosen"]] for r in same]
        gained = [100 * (t - base[name, r["seed"]]) for t, r in zip(test, same, strict=True)]
        chosen = ", ".join(r["chosen"] for r in same if r["chosen"]) or "–"
        text.append(f"| {name} | {how} | {chosen} | {spread(test)} | {spread(gained, 1, '+')} |")
    public = [r["public_test"] for r in lines if r["how"] == "average"]
    return "\n".join([*text, "", f"The common start alone: {spread(public)}.", ""])


def cost_table(lines: list[dict[str, Any]]) -> str:
    """Return the section of ``benchmarks.cost``."""
    text = [
        "# What training and forgetting cost",
        "",
        "Median (range) over seeds; `python -m benchmarks.cost`.",
        "",
    ]
    for people in sorted({line["people"] for line in lines if line["kind"] == "forget"}):
        same = [line for line in lines if line["kind"] == "forget" and line["people"] == people]
        figures = {k: spread([line[k] for line in same]) for k in ("predicted", "measured", "over_plain")}
        text.append(
            f"- forgetting {people} of 18 (S=4, R=2): predicted {figures['predicted']}, measured "
            f"{figures['measured']} of the plan's own training; {figures['over_plain']} of stock training on "
            "the sanitized data with as many epochs"
        )
    for line in [line for line in lines if line["kind"] == "overhead"][:1]:
        same = [other for other in lines if other["kind"] == "overhead"]
        for shards in (1, 4):
            ratio = spread([other[f"shards_{shards}"] for other in same])
            size = line[f"checkpoint_bytes_{shards}"] / 1e6
            text.append(
                f"- erasable over stock training with as many image passes, S={shards}, R=1: {ratio}; "
                f"checkpoints {size:.0f} MB"
            )
    return "\n".join(text) + "\n"
