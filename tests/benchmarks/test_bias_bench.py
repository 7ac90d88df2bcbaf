# SPDX-License-Identifier: Apache-2.0
"""The experiments with harmful data: what was put in is in, and the tables say what the lines hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmarks.bias import __main__, box_labels, exact, labels, report
from benchmarks.bias.coloured import FROM_A, FROM_B, draw
from benchmarks.harness import records

from expunge.tasks.box_labels import KINDS


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


def test_boxes_are_wrong_as_said() -> None:
    rng = np.random.default_rng(0)
    for kind in ("", *KINDS):
        _, boxes = box_labels._scene(rng)
        given = box_labels._spoilt(boxes, kind, rng)
        true = {(name, *box) for name, box in boxes}
        left = true & {(name, *box) for name, box in given}
        assert len(left) == len(true) - (kind in ("overlooked", "misplaced", "swapped"))
        assert len(given) == len(boxes) + {"overlooked": -1, "spurious": 1}.get(kind, 0)
        if kind == "swapped":
            assert {box[1:] for box in true} == {tuple(box) for _, box in given}


def test_a_ranking_that_knows_is_perfect_and_one_at_random_is_not() -> None:
    wrong = [("", "", "", "", KINDS[i % 4])[i % 5] for i in range(200)]
    knows = box_labels.scores(np.array([float(bool(kind)) for kind in wrong]), wrong)
    assert set(knows.values()) == {1.0}
    chance = box_labels.scores(np.random.default_rng(0).random(200), wrong)
    assert chance["precision"] < 0.4
    assert chance["AUROC"] == pytest.approx(0.5, abs=0.1)


def test_a_world_without_the_contributor_holds_the_same_bytes_of_all_others(tmp_path: Path) -> None:
    data = draw(0, exact.FROM_A, exact.FROM_B)
    for name, without in (("all", False), ("few", True)):
        exact.write(tmp_path / name, data, without_a=without)
    few = {p.relative_to(tmp_path / "few"): p for p in (tmp_path / "few").rglob("*.png")}
    every = {p.relative_to(tmp_path / "all"): p for p in (tmp_path / "all").rglob("*.png")}
    assert {p for p in every if p not in few} == {p for p in every if p.name.startswith("A")}
    assert len(every) - len(few) == exact.FROM_A
    for path in sorted(few)[::50]:
        assert few[path].read_bytes() == every[path].read_bytes()


def test_a_row_that_is_there_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def run(seed: int, **how: object) -> Iterator[report.Row]:
        yield "before", lambda: {"gap": asked.append(seed) or 0.5}
        if len(asked) > 1:
            yield "after", lambda: {"gap": 0.25}

    experiment = ModuleType("benchmarks.bias.fake")
    vars(experiment).update(SEEDS=2, FIGURES=("gap",), BASE="before", ABOUT="Nothing.", run=run)
    monkeypatch.setitem(sys.modules, "benchmarks.bias.fake", experiment)
    monkeypatch.setattr(__main__, "EXPERIMENTS", ("fake",))
    monkeypatch.setattr(sys, "argv", ["bias", "--experiment", "fake", "--out", str(tmp_path)])
    __main__.main()
    __main__.main()
    assert asked == [0, 1]
    whom = [(line["seed"], line["who"]) for line in records(tmp_path / "fake.jsonl")]
    assert sorted(whom) == [(0, "after"), (0, "before"), (1, "after"), (1, "before")]


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
