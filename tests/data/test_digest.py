# SPDX-License-Identifier: Apache-2.0
"""The manifest digest depends on all of the content and on nothing else."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.data.manifest import ManifestHasher, manifest_digest
from expunge.data.types import DatasetConfig, Sample

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
SAMPLE = st.builds(
    Sample,
    path=TEXT,
    split=st.sampled_from(["train", "val", "test"]),
    image_digest=TEXT,
    label_digest=st.just("") | TEXT,
    class_name=st.none() | TEXT,
    subjects=st.lists(TEXT, unique=True, max_size=3).map(lambda ids: tuple(sorted(ids))),
    public=st.booleans(),
    arrived=st.integers(1, 9),
)
SAMPLES = st.lists(SAMPLE, min_size=1, max_size=6, unique_by=lambda sample: sample.path)
CONFIG = DatasetConfig("yolo", ("a", "b"))


@settings(max_examples=60, deadline=None)
@given(SAMPLES, st.randoms(use_true_random=False))
def test_order_and_arrival_have_no_influence(samples: list[Sample], order: random.Random) -> None:
    other = [replace(sample, arrived=sample.arrived + 1) for sample in samples]
    order.shuffle(other)
    assert manifest_digest(CONFIG, samples) == manifest_digest(CONFIG, other)


@settings(max_examples=100, deadline=None)
@given(SAMPLES, st.data())
def test_every_field_has_influence(samples: list[Sample], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(samples) - 1))
    field = data.draw(
        st.sampled_from(["path", "split", "image_digest", "label_digest", "class_name", "subjects", "public"])
    )
    value = getattr(data.draw(SAMPLE), field)
    changed = [replace(s, **{field: value}) if i == index else s for i, s in enumerate(samples)]
    if len({s.path for s in changed}) < len(changed):
        return
    same = getattr(samples[index], field) == value
    assert (manifest_digest(CONFIG, samples) == manifest_digest(CONFIG, changed)) is same
    assert manifest_digest(CONFIG, samples) != manifest_digest(CONFIG, samples[:-1])


def test_the_configuration_has_influence() -> None:
    digests = {
        manifest_digest(config, [])
        for config in (
            CONFIG,
            DatasetConfig("folders", ("a", "b")),
            DatasetConfig("yolo", ("b", "a")),
            DatasetConfig("yolo", ("a,b",)),
            DatasetConfig("yolo", ("a", "b"), {"kpt_shape": [17, 3]}),
        )
    }
    assert len(digests) == 5


def test_unsorted_rows_are_refused() -> None:
    manifest = ManifestHasher(CONFIG)
    manifest.add(Sample("b", "train", "0"))
    for path in ("a", "b"):
        with pytest.raises(ValueError, match="sorted"):
            manifest.add(Sample(path, "train", "0"))
