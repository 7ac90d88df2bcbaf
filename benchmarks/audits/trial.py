# SPDX-License-Identifier: Apache-2.0
"""Run one trial: train all models, make every candidate, and record the verdict on each."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.audits import fakes
from expunge.audits.audit_model import Audit
from expunge.audits.unlearning_data import UnlearningData
from expunge.audits.verdict import Verdict

ALLOWED_DROP = 0.05


def run(world: Any, level: str, references: int, seed: int) -> dict[str, Any]:
    """Return the record of a trial: verdicts and figures of all candidates, and the seconds it took.

    ``exact`` is trained with the original's own seed, ``retrain`` with another; ``half`` on half of the
    forget set, ``over-forgotten`` on the whole of it with wrong targets, so that it avoids the true ones.
    """
    began, task = time.process_time(), world.task
    original, half = world.train(world.both, ["original"])[0], world.train(world.half, ["original"])[0]
    mistaught = world.train(world.wrong, ["original"])[0]
    names = ["original", "retrain", *(f"reference {i}" for i in range(references))]
    exact, retrain, *models = world.train(world.retain, names)
    trained = time.process_time()
    material = UnlearningData(world.forget, world.retain, world.guard, world.unseen, "sample", False)
    audit = Audit(task, task.clone(original), models, material, level, ALLOWED_DROP, seed=seed)

    candidates = {
        "retrain": lambda: retrain,
        "exact": lambda: exact,
        "untouched": lambda: task.clone(original),
        "head edit": lambda: fakes.head_edit(task, original, world, world.lr / 5, seed),
        "noised": lambda: fakes.noised(task, original, world.guard, ALLOWED_DROP, seed),
        "half": lambda: half,
        "destroyed": lambda: fakes.destroyed(task, original, seed),
        "over-forgotten": lambda: mistaught,
    }
    found: dict[str, Any] = {}
    for name, make in candidates.items():
        answers = audit.score(make())
        found[name] = record(audit.verdict_of(answers))
        if name == "untouched":
            found["mask"] = record(audit.verdict_of(fakes.masked(answers, seed)))
    ended = time.process_time()
    return {
        "level": level,
        "references": references,
        "candidates": found,
        "training_cpu_seconds": round(trained - began, 2),
        "audit_cpu_seconds": round(ended - trained, 2),
    }


def record(verdict: Verdict) -> dict[str, Any]:
    """Return what is kept of a verdict: the word, and the raw figures."""
    figures = [
        {
            "name": f["name"], "view": f["view"], "power": f["power"], "p": _short(f["p"]),
            "original": _short(f["original"]), "candidate": _short(f["candidate"]), "rho": _short(f["rho"]),
            "rho_interval": [_short(b) for b in f["rho_interval"]],
        }
        for f in verdict.figures
    ]  # fmt: skip
    utility = [_short(verdict.utility[k]) for k in ("before", "after")]
    return {"verdict": verdict.verdict, "failure": verdict.failure, "utility": utility, "figures": figures}


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if abs(value) < float("inf") else None
