# SPDX-License-Identifier: Apache-2.0
"""The error-rate experiment: a small trial end to end, and how its lines are counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.audits import run as command
from benchmarks.audits.fakes import ALL, KEPT, LOST, TRUE
from benchmarks.audits.report import summary
from benchmarks.audits.trial import run
from benchmarks.audits.worlds import Digits, Sizes

SMALL = Sizes(forget=40, retain=60, unseen=80, guard=30, epochs=30, lr=5e-3, batch=20, noise=0.5)


def test_a_trial_of_a_small_classifier() -> None:
    torch.set_num_threads(1)
    with Digits(3, SMALL) as world:
        found = run(world, "standard", 2, 3)
    verdicts = {name: entry["verdict"] for name, entry in found["candidates"].items()}
    assert set(verdicts) == set(ALL)
    assert verdicts["untouched"] == verdicts["destroyed"] == "fail"
    assert "fail" not in {verdicts[name] for name in TRUE}
    untouched = found["candidates"]["untouched"]["figures"]
    assert {f["view"] for f in untouched} == {"outputs", "noisy inputs", "refitted head"}
    assert all(f["rho"] == pytest.approx(1) for f in untouched)


def test_trials_are_split_anew() -> None:
    one, other, again = (Digits(trial, SMALL) for trial in (1, 2, 1))
    assert not torch.equal(one.forget.tensors[0], other.forget.tensors[0])
    assert torch.equal(one.forget.tensors[0], again.forget.tensors[0])
    rows = {tuple(x.tolist()) for part in (one.forget, one.retain) for x in part.tensors[0]}
    assert not rows & {tuple(x.tolist()) for x in one.unseen.tensors[0]}


def lines(count: int, **wrong: int) -> list[dict[str, Any]]:
    """Trials in which every verdict is right, but for the first few of some candidates."""
    made = []
    for i in range(count):
        words = {name: "pass" if name in TRUE else "fail" for name in ALL}
        for name, many in wrong.items():
            if i < many:
                words[name] = "fail" if name in TRUE else "no-power"
        entry = {n: {"verdict": w, "figures": [{"view": "outputs", "power": True}]} for n, w in words.items()}
        made.append({"candidates": entry, "training_cpu_seconds": 1.0, "audit_cpu_seconds": 1.0})
    return made


def test_targets() -> None:
    """400 trials: 12 false alarms are within 5 % by the exact bound, 13 are not; 8 misses are 2 %."""
    assert summary(lines(400))[1] == []
    assert summary(lines(400, retrain=12))[1] == []
    assert summary(lines(400, retrain=13))[1] != []
    assert summary(lines(400, half=8))[1] == []
    assert summary(lines(400, half=9))[1] != []
    assert summary(lines(40))[1] != []  # too few to bound anything at 5 %
    text, _ = summary(lines(400, untouched=3))
    for name in (*TRUE, *KEPT, *LOST):
        assert f"| {name} | 400 |" in text
    assert "3/400" in text


def test_a_power_curve_does_not_use_reported_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--forget", "20", "--out", str(tmp_path / "x.jsonl")])
    with pytest.raises(SystemExit, match="explored trials"):
        command.main()
