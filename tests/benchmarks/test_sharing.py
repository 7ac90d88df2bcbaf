# SPDX-License-Identifier: Apache-2.0
"""Checkpoints shared between configurations are those that each would have trained: compared by digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import harness
from benchmarks.configs import Config, Suite
from benchmarks.harness import Cache
from robust import scenes

from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.data.types import Scan
from expunge.storage.hashing import tensor_digest

pytestmark = pytest.mark.slow
BASE = Config("base", shards=1, stages=(1,), public_epochs=1)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Scan, Path]:
    """A small data set, one person of which is public, and a cache that holds the base's checkpoints."""
    folder = tmp_path_factory.mktemp("sharing")
    suite = Suite("detect", str(scenes.architecture(folder)), 32, 4, "mAP50-95")
    data = scenes.make(folder / "data")
    public = [f"images/train/s01_{k}.png" for k in range(3)]
    found = attach_subjects(scan(data), read_subjects(data.with_name("subjects.csv")), public)
    harness.train(suite, BASE, found, 0, folder, Cache(folder / "cache"))
    return suite, found, folder


def _digest(material: tuple[Suite, Scan, Path], config: Config, shared: bool) -> str:
    suite, found, folder = material
    cache = Cache(folder / "cache") if shared else None
    return tensor_digest(harness.train(suite, config, found, 0, folder, cache).states[0])


@pytest.mark.parametrize(
    "config",
    [replace(BASE, shard_lr=1e-4), replace(BASE, polish=1)],
    ids=["public start", "shards"],
)
def test_a_configuration_trained_alone_has_the_digest_of_the_shared_one(
    material: tuple[Suite, Scan, Path], config: Config
) -> None:
    folder = material[2] / "cache"
    before = len(list(folder.glob("*.json")))
    shared = _digest(material, config, True)
    assert len(list(folder.glob("*.json"))) == before + 1, "the rest came from the base"
    alone = _digest(material, config, False)
    assert shared == alone


def test_an_ensemble_has_the_shards_of_the_average(material: tuple[Suite, Scan, Path]) -> None:
    folder, config = material[2] / "cache", replace(BASE, aggregate="ensemble")
    before = len(list(folder.glob("*.json")))
    shared = _digest(material, config, True)
    assert len(list(folder.glob("*.json"))) == before, "all came from the base"
    assert shared == _digest(material, config, False)


def test_sharing_too_much_is_seen(
    material: tuple[Suite, Scan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: where keys leave out something that counts, the digests differ."""
    keys = harness.content_keys

    def blind(plan: harness.Plan, graph: harness.Graph) -> dict[str, str]:
        slower = plan.model_copy(update={"shard_lr": None})
        same = harness.build_graph(slower, [s for node in graph.nodes for s in node.samples], {})
        known = keys(slower, same)
        return {a.key: known[b.key] for a, b in zip(graph.nodes, same.nodes, strict=True)}

    config = replace(BASE, shard_lr=2e-4)
    monkeypatch.setattr(harness, "content_keys", blind)
    wrong = _digest(material, config, True)
    assert wrong == _digest(material, BASE, True)
    assert wrong != _digest(material, config, False)
