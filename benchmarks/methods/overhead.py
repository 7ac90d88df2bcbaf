# SPDX-License-Identifier: Apache-2.0
"""Seconds over the floor by method, suite by suite and in all: ``python -m benchmarks overhead``."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from benchmarks.harness import records
from benchmarks.methods.command import BUDGET, RESULTS

SUITES = ("digits", "fashion", "fashion_yolo", "faces")
ALL = "all"
HEAD = f"""# Seconds over the floor

CPU seconds of each method over the floor of its own batches, both summed over the reported runs of a suite
(all goals and seeds, at {BUDGET:g} of a retrain), and over those of all suites; in brackets the mean of
a run. The floor is that of the plainest loop, measured just before and after.
"""


def pooled(folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Return by method and suite (``all`` included): seconds over floor, and the mean seconds of a run."""
    runs: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for suite in SUITES:
        for line in records(folder / f"methods_{suite}.jsonl"):
            if line["kind"] == "result" and line["budget"] == BUDGET and line.get("floor_seconds"):
                for name in (suite, ALL):
                    runs[line["method"]][name].append((line["seconds"], line["floor_seconds"]))
    return {
        method: {
            name: (sum(s for s, _ in done) / sum(f for _, f in done), sum(s for s, _ in done) / len(done))
            for name, done in by_suite.items()
        }
        for method, by_suite in runs.items()
    }


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Return the table, the method nearest to its floor first."""
    columns = (*SUITES, ALL)
    rows = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for method in sorted(found, key=lambda name: found[name][ALL][0]):
        cells = [
            f"{found[method][c][0]:.2f} ({found[method][c][1]:.2g} s)" if c in found[method] else ""
            for c in columns
        ]
        rows.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the table beside the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the lines, and for the table")
    folder = parser.parse_args().out
    text = table(pooled(folder))
    (folder / "overhead.md").write_text(HEAD + "\n" + text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
