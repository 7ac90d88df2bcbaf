# SPDX-License-Identifier: Apache-2.0
"""Runs a benchmark by name: ``python -m benchmarks SUITE [its own arguments]``."""

from __future__ import annotations

import runpy
import sys

SUITES = {
    "interim": "seconds from the command to the published interim model (minutes)",
    "cost": "cost of forgetting and of erasable training in CPU time (about an hour)",
    "frontier": "accuracy against the price of an erasure, over configurations and seeds (hours)",
    "interim_accuracy": "accuracy of the interim model until the repair (after the frontier: minutes)",
    "report": "tables and plots of what the others measured (seconds)",
}


def main() -> int:
    """Run the suite that is named first; without a name, list them."""
    if len(sys.argv) < 2 or sys.argv[1] not in SUITES:
        for name, text in SUITES.items():
            print(f"{name:<16} {text}")
        return 0 if len(sys.argv) < 2 else 2
    suite = sys.argv.pop(1)
    runpy.run_module(f"benchmarks.{suite}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
