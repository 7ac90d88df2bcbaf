# SPDX-License-Identifier: Apache-2.0
"""Removing samples does not change the placement, order and draws of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.data.scan import scan
from expunge.data.types import DatasetConfig, Sample
from expunge.exact import placement
from expunge.exact.graph import build_graph
from expunge.training.plan import Epochs, Initial, Plan, Recipe
from expunge.training.schedule import PartnerRing, Stage, batches, epoch_order, stage_epochs

PATHS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=60, unique=True)


def plan(shards: int = 3, slices: int = 2, task: str = "detect", **recipe: Any) -> Plan:
    """Return a plan without an architecture."""
    values = {"imgsz": 32, "batch": 4, "optimizer": "AdamW", "lr0": 0.001, "lrf": 0.1, "momentum": 0.9}
    return Plan(
        task=task,
        names=worlds.NAMES,
        architecture={},
        initial=Initial(source="x.yaml", tensors=""),
        seed=7,
        shards=shards,
        slices=slices,
        epochs=Epochs(public=2, stages=(2,) * slices, polish=0),
        recipe=Recipe(**values, weight_decay=0, warmup_epochs=1, **recipe),
        placement=placement.uniform_placement(shards, slices),
        threads=1,
    )


def people() -> st.SearchStrategy[list[Sample]]:
    """Draw samples of up to three subjects each."""
    row = st.tuples(st.sets(st.integers(0, 12), max_size=3), st.booleans())
    return st.lists(row, min_size=2, max_size=40).map(
        lambda rows: [
            Sample(
                f"a/{i}.png",
                "train",
                f"{i:064x}",
                "",
                None,
                tuple(f"s{s}" for s in sorted(who)),
                not who and free,
            )
            for i, (who, free) in enumerate(rows)
        ]
    )


@given(PATHS, st.integers(0, 2**40), st.integers(0, 5), st.data())
def test_the_relative_order_does_not_change(
    paths: list[str], seed: int, epoch: int, data: st.DataObject
) -> None:
    removed = data.draw(st.sets(st.sampled_from(paths)))
    retained = [p for p in paths if p not in removed]
    before = [paths[i] for i in epoch_order(seed, "shard", epoch, paths)]
    after = [retained[i] for i in epoch_order(seed, "shard", epoch, retained)]
    assert after == [p for p in before if p not in removed]


@given(PATHS, st.integers(0, 2**40), st.integers(0, 5), st.data())
def test_partners_change_only_if_they_were_removed(
    paths: list[str], seed: int, epoch: int, data: st.DataObject
) -> None:
    removed = data.draw(st.sets(st.sampled_from(paths), max_size=len(paths) - 1))
    retained = [p for p in paths if p not in removed]
    full, rest = PartnerRing(seed, "shard", epoch, paths), PartnerRing(seed, "shard", epoch, retained)
    for path in retained:
        for draw in range(4):
            before = paths[full.partner(path, draw)]
            if before not in removed:
                assert retained[rest.partner(path, draw)] == before


def test_the_ring_is_fair_over_epochs() -> None:
    """Every sample is chosen about equally often: a chi-square test with a fixed seed."""
    paths = [str(i) for i in range(50)]
    counts = np.zeros(50)
    for epoch in range(400):
        ring = PartnerRing(1, "shard", epoch, paths)
        for path in paths:
            counts[ring.partner(path, 0)] += 1
    # Arcs are exponential, so a count's variance per epoch is about twice its mean of 1.
    chi = float((((counts - 400) / np.sqrt(2 * 400)) ** 2).sum())
    assert 25 < chi < 90


@given(people(), st.integers(1, 4), st.integers(1, 4), st.data())
def test_placement_does_not_change(
    samples: list[Sample], shards: int, slices: int, data: st.DataObject
) -> None:
    made = plan(shards, slices)
    removed = data.draw(st.sampled_from(sorted({s for row in samples for s in row.subjects} or {"nobody"})))
    retained = [s for s in samples if removed not in s.subjects]

    def cells(rows: list[Sample]) -> dict[str, set[tuple[int, int]]]:
        found: dict[str, set[tuple[int, int]]] = {}
        for node in build_graph(made, rows, {}).nodes:
            for sample in node.samples:
                found.setdefault(sample.path, set()).add((node.shard, node.stage))
        return found

    before, after = cells(samples), cells(retained)
    assert after == {path: before[path] for path in after}
    assert set(after) == {s.path for s in retained}, "every retained sample is in some stage"


@given(people(), st.integers(1, 3), st.integers(1, 3))
def test_only_nodes_with_forgotten_samples_change_their_keys(
    samples: list[Sample], shards: int, slices: int
) -> None:
    made = plan(shards, slices)
    removed = samples[0].path
    before = build_graph(made, samples, {})
    after = {node.key for node in build_graph(made, samples[1:], {}).nodes}
    tainted: set[str] = set()
    for node in before.nodes:
        if any(s.path == removed for s in node.samples) or node.parent in tainted:
            tainted.add(node.key)
    clean = {node.key for node in before.nodes} - tainted
    assert clean <= after
    assert not tainted & after


@given(st.integers(0, 100), st.integers(1, 17))
def test_batches_contain_all_samples_and_none_has_a_single_one(count: int, size: int) -> None:
    cut = batches(list(range(count)), size)
    assert [i for batch in cut for i in batch] == list(range(count))
    if count > 1 and size > 1:
        assert min(len(batch) for batch in cut) > 1


@given(st.integers(1, 200), st.integers(1, 8))
def test_stages_have_the_requested_passes(epochs: int, slices: int) -> None:
    stages = stage_epochs(epochs, slices)
    passes = sum(e * (k + 1) / slices for k, e in enumerate(stages))
    assert len(stages) == slices
    assert min(stages) >= 1
    if epochs >= slices:
        assert abs(passes - epochs) < 1


@settings(max_examples=25)
@given(st.floats(0.05, 0.95), st.integers(1, 5), st.integers(1, 5))
def test_high_risk_subjects_are_placed_together_and_last(share: float, shards: int, slices: int) -> None:
    made = placement.risk_placement(shards, slices, (0.5,), (1 - share, share))
    low, high = made.bins
    assert sum(c.share for c in low) / (
        sum(c.share for c in low) + sum(c.share for c in high)
    ) == pytest.approx(1 - share, abs=1e-4)
    assert min(c.slice for c in high) >= max(0, min(c.slice for c in low))
    shared = {(c.shard, c.slice) for c in low} & {(c.shard, c.slice) for c in high}
    assert len(shared) <= 1


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_draws_of_other_samples_do_not_change(tmp_path: Path, mosaic: float) -> None:
    """With Ultralytics' augmentations, pictures and boxes are equal unless mixed with the removed sample."""
    from expunge.tasks.base import get_task

    world = worlds.detection(tmp_path)
    found = scan(world.source)
    samples = [s for s in found.samples if s.split == "train"]
    augment = {
        "mosaic": mosaic,
        "mixup": mosaic / 2,
        "scale": 0.5,
        "translate": 0.1,
        "fliplr": 0.5,
        "hsv_h": 0.1,
    }
    made = plan(augment=augment)
    stage, task = Stage("shard", 0, 2, 2, 0.001, True), get_task("detect")
    removed = "p3/shot 1.png"
    retained = [s for s in samples if not s.path.endswith(removed)]

    def drawn(rows: list[Sample], epoch: int) -> dict[str, tuple[bytes, bytes]]:
        data = task.data(made, found.config, found.root, rows)
        result = {}
        for i, sample in enumerate(rows):
            batch = data.batch(stage, epoch, [i])
            result[sample.path] = (batch["img"].numpy().tobytes(), batch["bboxes"].numpy().tobytes())
        return result

    full, rest = drawn(samples, 0), drawn(retained, 0)
    moved = [path for path in rest if rest[path] != full[path]]
    if mosaic:
        assert 0 < len(moved) < len(retained) / 2, "only partners of the removed sample may change"
    else:
        assert not moved
    assert drawn(retained, 1) != rest, "negative control: another epoch has other draws"


def test_classification_draws_of_other_samples_do_not_change(tmp_path: Path) -> None:
    from expunge.tasks.base import get_task

    found = scan(worlds.classification(tmp_path).source)
    samples = [s for s in found.samples if s.split == "train"]
    augment = {"scale": 0.5, "fliplr": 0.5, "erasing": 0.4, "auto_augment": "randaugment"}
    made, stage = plan(task="classify", augment=augment), Stage("shard", 0, 2, 2, 0.001, True)
    config = DatasetConfig("folders", found.config.names)

    def drawn(rows: list[Sample]) -> dict[str, bytes]:
        data = get_task("classify").data(made, config, found.root, rows)
        order = epoch_order(made.seed, "shard", 0, [s.path for s in rows])
        batch = data.batch(stage, 0, order)
        return {rows[i].path: batch["img"][k].numpy().tobytes() for k, i in enumerate(order)}

    full, rest = drawn(samples), drawn(samples[3:])
    assert rest == {path: full[path] for path in rest}
    assert len(set(full.values())) == len(full), "negative control: the pictures differ"
