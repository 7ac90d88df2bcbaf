# SPDX-License-Identifier: Apache-2.0
"""Predicted costs, compared with counted passes and SISA's formulas; invalid plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import worlds

from expunge.data.types import DatasetConfig, Sample, Version
from expunge.errors import InputError
from expunge.exact import placement
from expunge.exact.composition import Composition, complete_composition, interim_candidates, restrict
from expunge.exact.cost import erasure_passes, predict_costs
from expunge.exact.graph import build_graph
from expunge.exact.planner import PUBLIC_TIMES, Options, make_plan
from expunge.exact.store import CheckpointStore
from expunge.tasks.weights import build_module, open_source, pack
from expunge.training.plan import Epochs, Initial, Plan, Recipe, load_plan
from expunge.training.schedule import stage_epochs


def plan(shards: int, slices: int, epochs: int = 60, **more: object) -> Plan:
    recipe = Recipe(
        imgsz=32, batch=4, optimizer="SGD", lr0=0.1, lrf=0.1, momentum=0.9, weight_decay=0, warmup_epochs=0
    )
    return Plan(
        task="detect",
        names=("a",),
        architecture={},
        initial=Initial(source="x.yaml", tensors=""),
        seed=1,
        shards=shards,
        slices=slices,
        epochs=Epochs(public=0, stages=stage_epochs(epochs, slices), polish=0),
        recipe=recipe,
        placement=placement.uniform_placement(shards, slices),
        threads=1,
        **more,  # type: ignore[arg-type]
    )


def samples(people: int, each: int = 1) -> list[Sample]:
    return [
        Sample(f"{i}/{k}", "train", "0" * 64, "", None, (f"s{i}",))
        for i in range(people)
        for k in range(each)
    ]


@pytest.mark.parametrize("slices", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 4, 8))])
def test_cost_with_slices_equals_the_formula(slices: int) -> None:
    """Slicing costs (2R+1)/(3R) of a retrain at equal passes (SISA, section 4.4), here with many subjects."""
    predicted = predict_costs(plan(1, slices, 240), samples(600), {}).one
    assert predicted == pytest.approx((2 * slices + 1) / (3 * slices), abs=0.05)


@pytest.mark.parametrize(("shards", "together"), [(4, 1), (4, 8), (8, 3)])
def test_cost_with_shards_equals_the_formula(shards: int, together: int) -> None:
    """K requests touch a share of 1 − (1 − 1/S)^K of the shards."""
    predicted = predict_costs(plan(shards, 1), samples(400), {}, together).several
    assert predicted == pytest.approx(1 - (1 - 1 / shards) ** together, abs=0.06)


def test_declared_risk_reduces_the_cost() -> None:
    people = samples(200)
    risks = {f"s{i}": 0.9 if i < 20 else 0.05 for i in range(200)}
    blind = plan(4, 4)
    aware = blind.model_copy(update={"placement": placement.risk_placement(4, 4, (0.5,), (0.9, 0.1))})
    assert predict_costs(aware, people, risks).one < 0.8 * predict_costs(blind, people, risks).one


def test_every_cost_includes_the_polish() -> None:
    bare = plan(4, 1)
    polished = bare.model_copy(update={"epochs": Epochs(public=0, stages=bare.epochs.stages, polish=6)})
    assert predict_costs(polished, samples(100), {}).one > predict_costs(bare, samples(100), {}).one + 0.05


def test_erasing_public_data_costs_a_full_retrain() -> None:
    made = plan(3, 2).model_copy(update={"epochs": Epochs(public=3, stages=(2, 2), polish=0)})
    rows = samples(30)
    free = Sample("free", "train", "1" * 64, "", None, (), True)
    other = Sample("free2", "train", "2" * 64, "", None, (), True)
    before, after = build_graph(made, [*rows, free, other], {}), build_graph(made, [*rows, other], {})
    assert erasure_passes(before, after) == after.passes


def test_interim_prefers_finished_shards_then_clean_ones_then_the_public_model(tmp_path: Path) -> None:
    made = plan(2, 2).model_copy(update={"epochs": Epochs(public=1, stages=(1, 1), polish=1)})
    free = Sample("free", "train", "1" * 64, "", None, (), True)
    graph = build_graph(made, [*samples(20), free], {})
    store = CheckpointStore(tmp_path)

    def stand(*keys: str) -> list[Composition]:
        store.destroy(store.stored())
        for key in keys:
            store.path(key).write_bytes(b"x")
        return interim_candidates(graph, store, made)

    assert graph.public is not None
    zero, one = graph.shards[0], graph.shards[1]
    assert stand() == []
    assert stand(graph.public.key) == [Composition({}, public=True)]
    assert stand(graph.public.key, zero[0].key) == [Composition({0: 1})]
    both = stand(zero[0].key, zero[1].key, one[0].key)
    assert both == [Composition({0: 2}), Composition({0: 2, 1: 1})]
    assert complete_composition(graph) == Composition({0: 2, 1: 2}, polish=True)
    part = restrict(graph, both[1])
    assert [len(part.shards[s]) for s in (0, 1)] == [2, 1]
    assert part.polish is None
    assert Composition.from_json(both[1].as_json()) == both[1]


def test_a_plan_contains_no_subject_and_can_be_saved_and_loaded(tmp_path: Path) -> None:
    architecture = worlds.tiny_architecture(tmp_path, "detect")
    rows = samples(10)
    version = Version(1, "shop", 1, "", tmp_path, DatasetConfig("yolo", ("a",)), 10, 10)
    risks = {"s3": 0.9, "s4": 0.1}
    made, _ = make_plan(Options(str(architecture), epochs=4, imgsz=32), version, rows, risks)
    made.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == made
    text = (tmp_path / "plan.json").read_text()
    assert not [p for p in ("s3", "s4", str(tmp_path)) if f'"{p}"' in text]
    assert made.placement.risk_edges == (0.5,)
    other = made.model_copy(update={"seed": 5})
    assert other.digest != made.digest


def test_the_public_phase_is_longer_without_pretrained_weights(tmp_path: Path) -> None:
    architecture = worlds.tiny_architecture(tmp_path, "detect")
    version = Version(1, "shop", 1, "", tmp_path, DatasetConfig("yolo", ("a",)), 10, 10)
    rows = samples(4)
    public = [replace(rows[0], public=True), *rows[1:]]

    def epochs(source: Path, given: list[Sample], **settings: str) -> int:
        options = Options(str(source), epochs=3, imgsz=32, settings=settings)
        return make_plan(options, version, given, {})[0].epochs.public

    assert epochs(architecture, rows) == 0, "there is none"
    assert epochs(architecture, public) == PUBLIC_TIMES * 3
    assert epochs(architecture, public, public_epochs="5") == 5
    trained = tmp_path / "trained.pt"
    module = build_module("detect", open_source(str(architecture)).architecture, ("a",))
    trained.write_bytes(pack(module, {"task": "detect", "imgsz": 32, "batch": 4}))
    assert epochs(trained, public) == 3, "it was trained before"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"colour": "1"}, "no setting 'colour'"),
        ({"optimizer": "auto"}, "optimizer"),
        ({"lr0": "fast"}, "lr0"),
        ({"freeze": "-1"}, "freeze"),
        ({"patience": "5"}, "no setting 'patience'"),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, settings: dict[str, str], word: str) -> None:
    architecture = worlds.tiny_architecture(tmp_path, "detect")
    version = Version(1, "shop", 1, "", tmp_path, DatasetConfig("yolo", ("a",)), 10, 10)
    with pytest.raises(InputError) as caught:
        make_plan(Options(str(architecture), imgsz=32, settings=settings), version, samples(3), {})
    assert word in str(caught.value)
