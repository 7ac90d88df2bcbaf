# SPDX-License-Identifier: Apache-2.0
"""Summaries and comparisons of models: real gaps are found, shuffled groups show none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from expunge.bias.groups import MISSING, Attributes, group_boxes, group_samples
from expunge.bias.metrics.comparison import changes
from expunge.bias.metrics.detection import matched
from expunge.bias.metrics.readings import Classified, Detected
from expunge.bias.metrics.summary import Setting, summary
from expunge.bias.removal import removal
from expunge.data.types import Sample
from expunge.tasks.boxes import PictureBoxes

TONES = ("dark", "light", "mid")


def world(seed: int = 0, people: int = 90, each: int = 3, small: int = 4) -> Setting:
    """People in three groups, ``small`` in a rare one, and two of whom nothing is known."""
    known: dict[str, dict[str, str]] = {}
    samples: list[Sample] = []
    for i in range(people + small + 2):
        who = f"p{i}"
        if i < people:
            known[who] = {"tone": TONES[i % 3]}
        elif i < people + small:
            known[who] = {"tone": "rare"}
        samples += [Sample(f"{who}-{k}.png", "test", "", subjects=(who,)) for k in range(each)]
    groups = group_samples(samples, Attributes(("tone",), subjects=known), ["tone"])
    return Setting(samples, samples, groups, 10, 200, seed)


def model(setting: Setting, right: Sequence[float], seed: int = 0) -> Classified:
    """Return a classifier of three classes with the given accuracy by group."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, len(setting.samples))
    hit = rng.random(len(truth)) < np.array(right)[setting.groups.index]
    confidence = rng.uniform(0.5, 1, len(truth))
    return Classified(truth, np.where(hit, truth, (truth + 1) % 3), confidence, 3)


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["group"]: entry for entry in found["groups"]}


def test_a_real_gap_is_found_and_the_worst_group_named() -> None:
    setting = world()
    found = summary(model(setting, [0.95, 0.6, 0.95, 0.9, 0.9]), setting)
    assert found["worst"]["group"] == "light"
    assert found["worst"]["low"] <= found["worst"]["value"] <= found["worst"]["high"] < 0.8
    assert found["gap"]["value"] > found["gap"]["by_chance"]
    assert found["gap"]["p"] < 0.02
    assert found["gap"]["low"] > 0.15
    light = by_name(found)["light"]
    assert (light["samples"], light["subjects"]) == (90, 30)
    assert sum(map(sum, light["classes"]["confusion"])) == 90
    assert found["intervals"]["unit"] == "subjects"


def test_shuffled_groups_show_no_gap_beyond_chance() -> None:
    """Under the null a p of at most 0.05 comes in 5 of 100 cases."""
    hits = 0
    for seed in range(40):
        setting = replace(world(seed, people=45, each=1), draws=60)
        found = summary(model(setting, [0.8] * 5, seed), setting)
        hits += found["gap"]["p"] <= 0.05
    assert hits <= 6  # 2 expected; more than 6 come in 1 of 300 such tests


def test_a_small_group_gets_a_sentence_and_no_number() -> None:
    setting = world()
    found = summary(model(setting, [0.9, 0.9, 0.9, 0.0, 0.0]), setting)
    for name in ("rare", MISSING):
        entry = by_name(found)[name]
        assert entry["figures"] is None
        assert entry["samples"] is None
        assert entry["subjects"] is None
        assert "fewer than 10 subjects" in entry["why"]
        assert "classes" not in entry
    assert found["worst"]["group"] in TONES  # not the small one, which is never right


def test_missing_values_are_reported_and_not_compared() -> None:
    setting = world(small=0)
    lonely = [Sample(f"x{i}", "test", "") for i in range(20)]
    samples = [*setting.samples, *lonely]
    known = Attributes(("tone",), subjects={f"p{i}": {"tone": TONES[i % 3]} for i in range(90)})
    groups = group_samples(samples, known, ["tone"])
    setting = Setting(samples, samples, groups, 10, 100, 0)
    found = summary(model(setting, [0.9, 0.9, 0.9, 0.0]), setting)
    entry = by_name(found)[MISSING]
    assert entry["apart"]
    assert entry["figures"]["accuracy"]["value"] == 0
    assert found["worst"]["group"] != MISSING
    assert found["gap"]["value"] < 0.3


def test_one_group_has_no_gap() -> None:
    setting = world(people=3, small=12)
    found = summary(model(setting, [0.5] * 5), setting)
    assert found["worst"] is None
    assert found["gap"] is None


def test_the_order_of_samples_does_not_change_the_figures() -> None:
    setting = world()
    reading = model(setting, [0.95, 0.6, 0.95, 0.9, 0.9])
    order = np.random.default_rng(1).permutation(len(setting.samples))
    samples = [setting.samples[i] for i in order]
    known = {s.subjects[0]: {"tone": setting.groups.names[setting.groups.index[i]]}
             for i, s in enumerate(setting.samples)}  # fmt: skip
    groups = group_samples(samples, Attributes(("tone",), subjects=known), ["tone"])
    mixed = Classified(reading.truth[order], reading.predicted[order], reading.confidence[order], 3)
    one, other = summary(reading, setting), summary(mixed, Setting(samples, samples, groups, 10, 200, 0))
    for name, entry in by_name(one).items():
        if entry["figures"]:
            for figure, value in entry["figures"].items():
                assert value["value"] == pytest.approx(by_name(other)[name]["figures"][figure]["value"])


def test_changes_are_judged_pair_by_pair() -> None:
    setting = world()
    before = model(setting, [0.9, 0.5, 0.9, 0.9, 0.9], seed=1)
    rng = np.random.default_rng(2)
    better = (setting.groups.index == 1) & (rng.random(len(before.truth)) < 0.8)
    after = Classified(before.truth, np.where(better, before.truth, before.predicted), before.confidence, 3)
    worse = (setting.groups.index == 2) & (rng.random(len(before.truth)) < 0.4)
    predicted = np.where(worse, (before.truth + 1) % 3, after.predicted)
    harmful = Classified(before.truth, predicted, before.confidence, 3)
    found = changes([before, after, harmful], setting)
    assert found["worst"][0]["low"] > 0.1
    assert found["gap"][0]["high"] < 0
    assert found["groups"]["dark"][0] == {"value": 0, "low": 0, "high": 0}  # nothing changed there
    assert found["harmed"] == [[], ["mid"]]
    again = changes([before, before], setting)  # the control
    assert again["worst"] == [{"value": 0, "low": 0, "high": 0}]
    assert again["harmed"] == [[]]


def scene(found: bool) -> PictureBoxes:
    boxes = np.array([[0, 0, 10, 10], [30, 30, 40, 40.0]])
    seen = boxes if found else boxes[:1]
    return PictureBoxes(
        boxes, np.zeros(2, np.int64), seen, np.full(len(seen), 0.9), np.zeros(len(seen), np.int64)
    )


@pytest.mark.parametrize("by_object", [False, True])
def test_a_detector_that_misses_the_objects_of_one_group(by_object: bool) -> None:
    samples = [Sample(f"{i}", "test", "", subjects=(f"p{i}",)) for i in range(40)]
    if by_object:  # the second box of every image is of the dark group, and never found
        known = Attributes(("tone",), subjects={s.subjects[0]: {"tone": "light"} for s in samples},
                           boxes={(s.path, 2): {"tone": "dark"} for s in samples})  # fmt: skip
        made = [scene(False) for _ in samples]
        groups = group_boxes(samples, [2] * 40, known, ["tone"])
        things = [s for s in samples for _ in range(2)]
    else:
        tones = {s.subjects[0]: {"tone": TONES[i % 2]} for i, s in enumerate(samples)}
        made = [scene(i % 2 == 1) for i in range(40)]
        groups = group_samples(samples, Attributes(("tone",), subjects=tones), ["tone"])
        things = samples
    found = summary(Detected(matched(made), 40, by_object, 0.5), Setting(samples, things, groups, 10, 100, 0))
    assert found["metric"] == "recall"
    assert found["worst"]["group"] == "dark"
    assert found["worst"]["value"] == (0 if by_object else 0.5)
    assert found["gap"]["p"] < 0.05
    figures = by_name(found)["light"]["figures"]
    assert figures["recall"]["value"] == 1
    assert figures["mAP50"]["value"] == pytest.approx(0.995)
    assert ("precision" in figures) is not by_object


def test_removal_warns_if_a_group_loses_most_samples() -> None:
    setting = world()
    erased = np.array([g == 0 and i % 5 != 0 for i, g in enumerate(setting.groups.index)])
    found = removal(setting.samples, setting.groups, erased, 10)
    dark = by_name(found)["dark"]
    assert dark["share"] == pytest.approx(0.8)
    assert found["loses_most"] == 1
    assert any("dark" in w for w in found["warnings"])
    assert "collect" in found["warnings"][-1]
    assert "share" not in by_name(found)["rare"]
    none = removal(setting.samples, setting.groups, np.zeros(len(erased), bool), 10)  # the control
    assert none["warnings"] == []


def test_removal_warns_of_a_group_that_loses_more_than_others_or_becomes_too_small() -> None:
    setting = world()
    few = np.array([g == 0 and i % 3 == 0 for i, g in enumerate(setting.groups.index)])
    assert "of all only" in removal(setting.samples, setting.groups, few, 10)["warnings"][0]
    people = {s.subjects[0] for s, g in zip(setting.samples, setting.groups.index, strict=True) if g == 1}
    kept = sorted(people)[:16]  # of 30, so that fewer than half go
    erased = np.array([s.subjects[0] in people and s.subjects[0] not in kept for s in setting.samples])
    found = removal(setting.samples, setting.groups, erased, 20)
    assert by_name(found)["light"]["left_too_few"]
    assert "remain" in found["warnings"][0]
