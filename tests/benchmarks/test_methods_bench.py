# SPDX-License-Identifier: Apache-2.0
"""The benchmark of methods: its figures against slow truth, its rule, and that judging never tunes."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.methods import digits, fashion, memory, overhead
from benchmarks.methods.floor import Cost, Floor, Ledger, measure_floor
from benchmarks.methods.grid import COARSE, FINE, length, search
from benchmarks.methods.measure import Figures, auc, compare, failures, ratios
from benchmarks.methods.runner import RUNS, Bench
from benchmarks.methods.tables import rows, write
from benchmarks.methods.worlds import ModuleSuite, World
from torch import nn

from expunge.cli import bench
from expunge.errors import InputError
from expunge.methods.base import FORWARD, all_methods
from expunge.tasks.protocol import Samples

SIZES = {"forget": 100, "retain": 100, "test": 50}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def figures(forget: float, retain: float, test: float, losses: list[float], area: float = 0.5) -> Figures:
    """Return the figures of some model."""
    return Figures({"forget": forget, "retain": retain, "test": test}, np.array(losses), area)


REFERENCES = [
    figures(0.8, 1.0, 0.90, [0.1, 0.5, 2.0]),
    figures(0.75, 1.0, 0.92, [0.2, 0.4, 2.4]),
    figures(0.85, 1.0, 0.88, [0.1, 0.7, 1.6]),
]


def test_membership_area_counts_pairs() -> None:
    forgotten, unseen = np.array([0.1, 0.5, 0.5]), np.array([0.5, 0.7, 0.05, 2.0])
    slow = np.mean([[(a < b) + 0.5 * (a == b) for b in unseen] for a in forgotten])
    assert auc(forgotten, unseen) == pytest.approx(float(slow))
    assert auc(np.zeros(3), np.ones(4)) == 1.0


def test_gaps_are_beside_those_between_references() -> None:
    found = compare(figures(1.0, 1.0, 0.90, [0.0, 0.0, 0.0]), REFERENCES, SIZES)
    assert found["forget"] == pytest.approx(0.2)
    assert found["null_forget"] == pytest.approx((0.0 + 0.075 + 0.075) / 3)
    assert found["null_retain"] == 1 / SIZES["retain"]  # they agree: one sample is the least that counts
    means = [np.mean(r.losses) for r in REFERENCES]
    assert found["losses"] == pytest.approx(float(np.mean(means)))  # from zeros it is the mean
    pairs = [(0, 1), (0, 2), (1, 2)]
    slow = [np.abs(np.sort(REFERENCES[a].losses) - np.sort(REFERENCES[b].losses)).mean() for a, b in pairs]
    assert found["null_losses"] == pytest.approx(float(np.mean(slow)))
    assert found["tug_of_war"] == pytest.approx(0.8 * 1.0 * 1.0)


@pytest.mark.parametrize(
    ("model", "goal", "words"),
    [
        (REFERENCES[1], "random", []),
        (figures(1.0, 1.0, 0.90, [0.0] * 3), "random", ["under-forgetting", "under-forgetting (losses)"]),
        (figures(0.2, 1.0, 0.90, [9.0] * 3), "random", ["over-forgetting", "over-forgetting (losses)"]),
        (figures(0.8, 0.9, 0.50, [0.1, 0.5, 2.0]), "random", ["retain lower", "test lower"]),
        (figures(0.8, 1.0, 0.90, [9.0] * 3), "class", []),
        (figures(0.8, 1.0, 0.90, [9.0] * 3), "random", ["over-forgetting (losses)"]),
    ],
)
def test_the_rule_says_how_a_model_fails(model: Figures, goal: str, words: list[str]) -> None:
    assert failures([compare(model, REFERENCES, SIZES)], goal) == words


def test_gaps_of_seeds_do_not_cancel_out() -> None:
    up = compare(figures(1.0, 1.0, 0.9, [0.1, 0.5, 2.0]), REFERENCES, SIZES)
    down = compare(figures(0.6, 1.0, 0.9, [0.1, 0.5, 2.0]), REFERENCES, SIZES)
    assert ratios([up, down], "random")["forget"] == pytest.approx(4.0)


@pytest.mark.parametrize("name", sorted(set(all_methods()) - {"retrain"}))
def test_every_method_is_tuned_in_as_many_runs(name: str) -> None:
    method, tried = all_methods()[name], []

    def score(values: dict[str, Any]) -> float:
        tried.append(values)
        return abs(len(tried) - 3)

    search(method, 3.0, score)
    assert len(tried) == (len(COARSE) + 2 * len(FINE) if method.strength else 1)
    assert len({str(values) for values in tried}) == len(tried)
    assert all(set(values) <= set(method.hyperparameters) for values in tried)


def test_the_search_closes_in_on_the_best() -> None:
    method = all_methods()["finetune"]
    tried: dict[float, float] = {}

    def score(values: dict[str, Any]) -> float:
        tried[values["lr"]] = abs(np.log(values["lr"] / 2e-3))
        return tried[values["lr"]]

    search(method, 3.0, score)
    assert min(tried, key=lambda lr: tried[lr]) == pytest.approx(2e-3, rel=0.25)
    assert length(method, 3.0) == {"epochs": 3}


def tiny(seed: int, noisy: bool) -> tuple[Samples, Callable[[str], World]]:
    """Return forty points of two kinds; a tenth is for the others to learn by heart."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(80, 4, generator=generator)
    data = list(zip(x, (x[:, 0] > 0).long(), strict=True))

    def world(goal: str) -> World:
        return World(goal, data[:4], data[4:40], data[40:60], data[60:70], data[70:])

    return data[:40], world


def suite() -> ModuleSuite:
    """Return a suite that is trained in no time."""

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    return ModuleSuite("tiny", "points", ("random",), 4, network, {"lr": 1e-2, "batch": 10}, tiny)


def run(folder: Path, only: tuple[str, ...] = ("finetune", "rewind")) -> Bench:
    """Run the tiny suite."""
    done = Bench(
        suite(), folder / "x.jsonl", 2, 1.0, 10, tuning_seeds=(101,), only=only, say=lambda text: None
    )
    done.run([0])
    return done


def test_a_suite_from_end_to_end_and_again(tmp_path: Path) -> None:
    done = run(tmp_path)
    table = rows(done.lines, "random")
    assert [row.method for row in table][:2] == ["original", "retrain"]
    assert {row.method for row in table[2:]} == {"finetune", "rewind"}
    finetune = next(row for row in table if row.method == "finetune")
    assert finetune.passes == pytest.approx(1.0)  # four epochs, all that the budget allows
    write(done.suite, done.lines, 1.0, tmp_path, "x")
    assert "Between references" in (tmp_path / "x.md").read_text()
    assert len(list(csv.reader((tmp_path / "x.csv").open()))) == 1 + len(table)
    assert (tmp_path / "x.png").stat().st_size > 1000
    before = (tmp_path / "x.jsonl").read_text()
    run(tmp_path)  # nothing is left to do
    assert (tmp_path / "x.jsonl").read_text() == before


def test_a_run_that_was_cut_off_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole = run(tmp_path, ("finetune",)).lines
    (tmp_path / "cut").mkdir()
    kept = "".join(json.dumps(line) + "\n" for line in whole[:6])
    (tmp_path / "cut" / "x.jsonl").write_text(kept)
    again = run(tmp_path / "cut", ("finetune",)).lines
    timed = ("seconds", "floor_seconds")
    strip = [
        [{k: v for k, v in line.items() if k not in timed} for line in lines] for lines in (whole, again)
    ]
    assert strip[0] == strip[1]


def test_budgets_do_not_mix_but_share_references(tmp_path: Path) -> None:
    run(tmp_path, ("finetune",))
    half = Bench(suite(), tmp_path / "x.jsonl", 2, 0.5, 10, (101,), ("finetune",), lambda text: None)
    half.run([0])
    chosen = {
        line["budget"]: line["values"]["epochs"] for line in half.lines if line.get("method") == "finetune"
    }
    assert chosen == {1.0: 4, 0.5: 2}
    for budget, epochs in chosen.items():
        found = [line for line in half.lines if line["kind"] == "result" and line["budget"] == budget]
        assert [line["values"]["epochs"] for line in found if line["method"] == "finetune"] == [epochs]
    assert sum(line["kind"] == "reference" for line in half.lines) == 2 + 3


def test_what_is_tuned_on_is_not_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tuned"):
        Bench(suite(), tmp_path / "x.jsonl", 2, 1.0, 10, tuning_seeds=(0,)).run([0])


def test_a_method_that_cannot_run_is_a_row(tmp_path: Path) -> None:
    done = Bench(suite(), tmp_path / "x.jsonl", 2, 1e-6, 10, (101,), ("influence",), lambda text: None)
    done.run([0])
    row = next(row for row in rows(done.lines, "random") if row.method == "influence")
    assert not row.close
    assert "budget" in row.failures[0]


def test_memory_fails_beyond_twice_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peaks = {"retrain": 100, "modest": 200, "greedy": 201}
    monkeypatch.setattr(memory, "all_methods", lambda: dict.fromkeys(peaks))
    monkeypatch.setattr(
        memory.processes,
        "run",
        lambda _module, _one, name, *_rest, **_: SimpleNamespace(
            stdout=json.dumps({"bytes": peaks[name]}) + "\n", check_returncode=lambda: None
        ),
    )
    monkeypatch.setattr("sys.argv", ["memory", "--out", str(tmp_path / "memory.json")])
    assert memory.main() == 1
    assert capsys.readouterr().out.endswith("more than 2 times training: greedy\n")
    written = json.loads((tmp_path / "memory.json").read_text())
    assert written["about"] == {"imgsz": 160, "batch": 16, "quick": False}
    assert [found["over_training"] for found in written["methods"].values()] == [1.0, 2.0, 2.01]
    peaks["greedy"] = 200
    assert memory.main() == 0


def test_sets_of_digits_do_not_overlap() -> None:
    made = digits.suite()
    for goal in made.goals:
        world = made.world(goal, 5)
        sets = [world.forget, world.retain, world.test, world.calibration]
        pictures = [
            [hash(x.numpy().tobytes()) for x, _ in (data[i] for i in range(len(data)))] for data in sets
        ]
        together = [p for found in pictures for p in found]
        assert len(set(together)) == len(together), goal
        assert len(world.forget) + len(world.retain) == len(made.everything(goal, 5)) == 400
        unseen = {hash(world.unseen[i][0].numpy().tobytes()) for i in range(len(world.unseen))}
        assert not unseen & {*pictures[0], *pictures[1], *pictures[3]}, goal


def test_the_floor_is_positive_and_leaves_the_model() -> None:
    made = suite()
    model = made.network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    floor = measure_floor(made.task, model, made.world("random", 0).retain, 10)
    assert floor.training.seconds(1, 10) > 0
    assert floor.looking.seconds(1, 10) > 0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_batch_norm_of_the_floor_works_as_the_method_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = suite(), set()
    asked = made.task.loss

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        seen.add((model.training, model.get_submodule("1").training))
        return asked(model, batch)

    monkeypatch.setattr(made.task, "loss", loss)
    model, data = made.network(), made.world("random", 0).retain
    for statistics in (False, True):
        seen.clear()
        measure_floor(made.task, model, data, 10, statistics)
        assert seen == {(False, statistics)}


def test_what_is_timed_is_the_same_run_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, ran, found = run(tmp_path, ("finetune",)), Bench._attempt, []

    def attempt(self: Bench, *what: Any) -> dict[str, Any]:
        found.append({**ran(self, *what), "seconds": 3.0 - len(found)})
        return found[-1]

    monkeypatch.setattr(Bench, "_attempt", attempt)
    best = done._fastest(all_methods()["finetune"], {}, done.suite.world("random", 0), 0)
    assert len(found) == RUNS
    assert best["seconds"] == 3.0 - (RUNS - 1)
    states = [run["model"].state_dict() for run in found]
    assert all(torch.equal(v, state[k]) for state in states for k, v in best["model"].state_dict().items())


def test_the_floor_counts_batches_of_both_kinds() -> None:
    floor = Floor(Cost(1.0, 0.1), Cost(10.0, 0.01))
    work = Ledger(1e9, size=10)
    work.charge(10)
    assert floor.seconds(work) == pytest.approx(1 + 1)
    work.charge(4)  # a small batch is a batch
    assert floor.seconds(work) == pytest.approx(2 + 1.4)
    work.charge(10, FORWARD)
    assert floor.seconds(work) == pytest.approx(2 + 1.4 + 10 + 0.1)
    work.charge(10, 1 + 2 * FORWARD)
    assert floor.seconds(work) == pytest.approx(3 + 2.4 + 30 + 0.3)
    assert work.spent == pytest.approx(10 + 4 + 10 / 3 + 10 * 5 / 3)


def test_overhead_is_of_sums_over_suites(tmp_path: Path) -> None:
    timed = {"kind": "result", "budget": 0.05, "method": "m"}
    lines = {
        "digits": [{**timed, "seconds": 3.0, "floor_seconds": 1.0}, {"kind": "tuning", "budget": 0.05}],
        "faces": [
            {**timed, "seconds": 7.0, "floor_seconds": 9.0},
            {**timed, "seconds": 99.0, "floor_seconds": 1.0, "budget": 0.25},
            {**timed, "seconds": 99.0, "method": "retrain"},
        ],
    }
    for suite_name, found in lines.items():
        text = "".join(json.dumps(line) + "\n" for line in found)
        (tmp_path / f"methods_{suite_name}.jsonl").write_text(text)
    found = overhead.pooled(tmp_path)
    assert found == {"m": {"digits": (3.0, 3.0), "faces": (7 / 9, 7.0), "all": (1.0, 5.0)}}
    assert "| m | 3.00 (3 s) |  |  | 0.78 (7 s) | 1.00 (5 s) |" in overhead.table(found)


def test_the_floor_of_what_is_said_at_once_is_that_of_full_batches() -> None:
    floor = Floor(Cost(1.0, 0.1), Cost(1.0, 0.1))
    several, single = Ledger(1e9, size=10), Ledger(1e9, size=10)
    several.charge(25)
    assert floor.seconds(several) == pytest.approx(2 + 2.5)
    single.part(0.5).charge(1)  # a batch of one, of a part of the budget
    assert floor.seconds(single) == pytest.approx(1.1)


def _idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


def test_fashion_reads_whole_files_only(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a.gz").write_bytes(gzip.compress(_idx(array)))
    assert np.array_equal(fashion.read(tmp_path, "a"), array)
    (tmp_path / "b").write_bytes(_idx(array)[:-1])
    with pytest.raises(InputError, match="whole"):
        fashion.read(tmp_path, "b")
    with pytest.raises(InputError, match="not in"):
        fashion.read(tmp_path, "c")


@pytest.mark.parametrize("goal", ["random", "class", "corrupted"])
def test_sets_of_fashion_do_not_overlap(tmp_path: Path, goal: str) -> None:
    count = fashion.TRAIN + fashion.GUARD + fashion.TEST
    pictures = np.zeros((count, 28, 28), dtype=np.uint8)
    pictures[:, 0, 0], pictures[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    for name, array in zip(fashion.FILES, (pictures, np.arange(count, dtype=np.uint8) % 10), strict=True):
        (tmp_path / name).write_bytes(_idx(array))
    made = fashion.suite(data=tmp_path, quick=True)
    world = made.world(goal, 3)

    def numbers(data: Samples) -> set[int]:
        pictures = [data[i][0] for i in range(len(data))]
        return {round(float(x[0, 0, 0] * 255 + x[0, 0, 1] * 255 * 256)) for x in pictures}

    sets = [numbers(data) for data in (world.forget, world.retain, world.test, world.calibration)]
    assert len(set.union(*sets)) == sum(map(len, sets))
    assert len(sets[0] | sets[1]) == fashion.TRAIN
    assert not numbers(world.unseen) & (sets[0] | sets[1] | sets[3])
    assert made.network()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def expunge(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "expunge.cli.main", *words], capture_output=True, text=True, check=False
    )


def test_the_command_lists_suites() -> None:
    listed = expunge("bench")
    assert listed.returncode == 0
    assert {"digits", "faces", "fashion", "frontier"} <= {
        line.split()[0] for line in listed.stdout.splitlines()
    }


def test_the_command_refuses_an_unknown_suite() -> None:
    assert expunge("bench", "nothing").returncode == 2


def test_the_command_needs_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "a" / "b" / "c" / "bench.py"))
    with pytest.raises(InputError, match="no benchmarks"):
        bench.checkout()
