# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' own arithmetic: what is shared between configurations, and what counts as a result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks import cost, report
from benchmarks.configs import SUITES, Config, make_plan
from benchmarks.grid import GRIDS
from benchmarks.harness import content_keys, expected

from expunge.data.types import Sample
from expunge.exact.graph import Graph, build_graph

BASE = Config("base", shards=2, stages=(2, 2), public_epochs=3)


@pytest.fixture
def samples() -> list[Sample]:
    """Eight people with two samples each; two of them public."""
    return [
        Sample(f"images/train/p{p}_{k}.png", "train", f"{p}{k}", subjects=(f"p{p}",), public=p < 2)
        for p in range(8)
        for k in range(2)
    ]


def _graph(config: Config, samples: list[Sample]) -> tuple[Graph, dict[str, str]]:
    plan = make_plan(SUITES["detect"], config, ("face",), 0)
    graph = build_graph(plan, samples, {})
    return graph, content_keys(plan, graph)


def _contents(config: Config, samples: list[Sample], phase: str) -> set[str]:
    graph, keys = _graph(config, samples)
    return {keys[node.key] for node in graph.nodes if node.phase == phase}


@pytest.mark.parametrize(
    "change", [{"polish": 2}, {"freeze": 3}, {"shard_lr": 1e-4}, {"replay": True}, {"anneal": "phase"}]
)
def test_public_checkpoint_is_shared_by_configurations_that_differ_later(
    samples: list[Sample], change: dict[str, Any]
) -> None:
    changed = replace(BASE, **change)
    assert _contents(BASE, samples, "public") == _contents(changed, samples, "public")
    assert (_contents(BASE, samples, "shard") == _contents(changed, samples, "shard")) == ("polish" in change)


@pytest.mark.parametrize("change", [{"lr0": 1e-3}, {"public_epochs": 4}, {"scale": 0.5}, {"mosaic": 1.0}])
def test_public_checkpoint_is_not_shared_where_it_would_differ(
    samples: list[Sample], change: dict[str, Any]
) -> None:
    assert not _contents(BASE, samples, "public") & _contents(replace(BASE, **change), samples, "public")


def test_checkpoints_of_an_erasure_are_shared_but_for_what_saw_the_person(samples: list[Sample]) -> None:
    rest = [s for s in samples if "p5" not in s.subjects]
    before, after = _contents(BASE, samples, "shard"), _contents(BASE, rest, "shard")
    assert before & after
    assert before - after


@pytest.mark.parametrize("task", sorted(GRIDS))
def test_grid_names_are_unique(task: str) -> None:
    for grid in GRIDS[task].values():
        assert len({config.name for config in grid}) == len(grid)


def _line(name: str, test: float, seconds: float, public: float = 0.5) -> dict[str, Any]:
    config = replace(BASE, name=name).as_json()
    return {
        "kind": "erasable", "name": name, "seed": 0, "config": config, "test": test, "public_test": public,
        "val": test, "public_val": public,
        "passes": 100, "cpu_seconds": 100.0, "erase_passes": seconds, "erase_cpu_seconds": seconds,
    }  # fmt: skip


def test_frontier_drops_what_keeps_too_little_and_what_is_beaten() -> None:
    ordinary = [
        {
            "kind": "ordinary",
            "name": f"o{i}",
            "seed": 0,
            "variant": "v",
            "test": test,
            "val": test,
            "cpu_seconds": 100.0,
            "passes": 100,
        }
        for i, test in enumerate((0.8, 0.9))
    ]
    lines = [*ordinary, _line("cheap", 0.7, 5), _line("good", 0.87, 10), _line("beaten", 0.865, 20)]
    table = report.rows([*lines, _line("best", 0.9, 40)])
    assert [row.name for row in table] == ["cheap", "good", "beaten", "best"]
    assert [row.name for row in report.frontier(table)] == ["good", "best"]
    assert table[0].kept == [pytest.approx(0.5)]
    assert table[1].of_ordinary == [pytest.approx(0.1)]


def test_expected_cost_follows_the_weights() -> None:
    assert expected({"a": (10, 1.0), "b": (30, 3.0)}, {"a": 3.0, "b": 1.0}) == (15.0, 1.5)


@pytest.mark.parametrize(("measured", "fails"), [(0.11, False), (0.124, False), (0.126, True), (1.0, True)])
def test_a_forget_that_costs_more_than_predicted_fails(measured: float, fails: bool) -> None:
    line = {"kind": "forget", "people": 1, "predicted": 0.1, "measured": measured}
    assert bool(cost.verdict([line])) is fails


@pytest.mark.parametrize(("method", "people"), [("exact", [1, 8]), ("retrain", [1])])
def test_every_forget_is_measured_from_the_same_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, people: list[int]
) -> None:
    seen: list[bool] = []

    def forget(workspace: Path, *arguments: str) -> dict[str, Any]:
        if "--dry-run" in arguments:
            seen.append((workspace / "erased").exists())
            return {"models": [{"cost_predicted": 0.2}]}
        (workspace / "erased").touch()
        return {"models": [{"cost_measured": 0.25, "cpu_seconds": 10.0, "interim": None}]}

    def workspace(work: Path, data: Path, public: bool) -> Path:
        (work / "workspace").mkdir()
        return work / "workspace"

    monkeypatch.setattr(cost, "new_workspace", workspace)
    monkeypatch.setattr(cost, "train", lambda *rest: 40.0)
    monkeypatch.setattr(cost, "plain", lambda *rest: 20.0)
    monkeypatch.setattr(cost, "expunge", forget)
    lines = list(cost.erase(tmp_path, tmp_path, 3, 0, method))
    assert [line["people"] for line in lines] == people
    assert not any(seen), "each starts where nobody is forgotten yet"
    assert {line["over_plain"] for line in lines} == {0.5}
