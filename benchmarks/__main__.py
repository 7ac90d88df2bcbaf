# SPDX-License-Identifier: Apache-2.0
"""Runs a benchmark by name: ``python -m benchmarks SUITE [its own arguments]``."""

from __future__ import annotations

import runpy
import sys

SUITES = {
    "interim": "seconds from the command to the published interim model (minutes)",
    "cost": "cost of forgetting and of erasable training in CPU time (about an hour)",
    "frontier": "accuracy against the price of an erasure, over configurations and seeds (hours)",
    "digits": "every unlearning method on small classifiers, against 10 retrained references (half an hour)",
    "faces": "the same on YOLO26n and the ORL scenes: a subject, 10 % of the subjects (hours)",
    "fashion": "the same on Fashion-MNIST; --data FOLDER says where its files are (hours)",
    "fashion_yolo": "the same with YOLO26n-cls (hours)",
    "overhead": "seconds of every method over the floor of its passes, from the suites' lines (seconds)",
    "memory": "peak memory of every unlearning method over that of training (a quarter of an hour)",
    "aggregation": "other exact ways to merge the same shards (with the frontier's checkpoints: minutes)",
    "interim_accuracy": "accuracy of the interim model until the repair (after the frontier: minutes)",
    "scope": "lineage of one subject among a million samples: seconds, memory (minutes)",
    "duplicates": "hashing pictures, pairing a million hashes: seconds, memory (minutes)",
    "audit_errors": "how often the auditor errs, over hundreds of trials; can be interrupted (hours)",
    "audit_cost": "CPU time of an audit in units of a training, by level and probe (minutes)",
    "bias": "harmful contributors, labels, boxes: found, forgotten, and who is served better then (an hour)",
    "attribution": "harm by attribution against retraining without each sample (a quarter of an hour)",
    "serve": "pages and API of the desk for 20 people while an unlearning job runs (minutes)",
    "report": "tables and plots of what the others measured (seconds)",
}
OF_METHODS = ("digits", "faces", "fashion", "fashion_yolo", "memory", "overhead")


def main() -> int:
    """Run the suite that is named first; without a name, list them."""
    if len(sys.argv) < 2 or sys.argv[1] not in SUITES:
        for name, text in SUITES.items():
            print(f"{name:<16} {text}")
        return 0 if len(sys.argv) < 2 else 2
    suite = sys.argv.pop(1)
    if suite == "audit_errors":
        suite = "audits.run"
    module = f"benchmarks.methods.{suite}" if suite in OF_METHODS else f"benchmarks.{suite}"
    runpy.run_module(module, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
