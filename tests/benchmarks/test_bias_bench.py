# SPDX-License-Identifier: Apache-2.0
"""The experiments with harmful data: what was put in is in, and the tables say what the lines hold."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmarks.bias import labels, report
from benchmarks.bias.coloured import FROM_A, FROM_B, draw


def test_colours_follow_as_often_as_said_and_the_test_is_balanced() -> None:
    data = draw(0)
    shares = {}
    for who, count in (("A", FROM_A), ("B", FROM_B)):
        where = data.where("train", who)
        assert len(where) == count
        shares[who] = float((data.colours[where] == data.targets[where]).float().mean())
    assert shares["A"] == pytest.approx(0.95, abs=0.03)
    assert shares["B"] == pytest.approx(0.5, abs=0.1)
    test = data.where("test")
    for target in (0, 1):
        own = data.colours[test][data.targets[test] == target]
        assert float(own.float().mean()) == 0.5
    assert (data.pictures[test].abs().sum((2, 3)) > 0).sum(1).tolist() == [1] * len(test)


def test_a_contributor_errs_and_nobody_else() -> None:
    problem = labels.draw(0)
    assert problem.wrong.sum() == round(labels.WRONG * labels.EACH)
    assert (problem.contributor[problem.wrong] == 0).all()


def test_the_table(tmp_path: Path) -> None:
    experiment = ModuleType("experiment")
    experiment.FIGURES, experiment.BASE, experiment.ABOUT = ("gap",), "before", "Nothing."  # type: ignore[attr-defined]
    lines = [{"seed": s, "who": "before", "gap": 0.5 + 0.1 * s} for s in range(3)]
    lines += [{"seed": s, "who": "after", "gap": 0.3 + 0.1 * s, "note": "rolled back"} for s in range(3)]
    lines += [{"seed": 0, "who": "never", "note": "too dear"}]
    text = report.write("x", experiment, lines, tmp_path).read_text()
    assert "| before | 0.600 ± 0.248 |  |" in text  # t(2) = 4.303, s/√n = 0.0577
    assert "| after | 0.400 ± 0.248 | -0.200 ± 0.000 |" in text
    assert "| never | – | – |" in text
    assert "- after, 3 of 3 seeds: rolled back" in text
