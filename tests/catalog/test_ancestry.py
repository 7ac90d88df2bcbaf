# SPDX-License-Identifier: Apache-2.0
"""Versions that hold erased data, compared with a slow search; state of weights with several records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expunge.catalog.ancestry import Ancestry
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.weights_state import state_of_weights


def version(row_id: int, **values: Any) -> ModelVersion:
    """Return the only version of a model."""
    own = {
        "id": row_id, "name": f"m{row_id}", "task": "detect", "number": 1, "parent": None, "dataset_id": 1,
        "dataset": "shop", "dataset_version": 1, "retained_digest": "", "samples": 1, "subjects": 1,
        "plan_digest": None, "method": "adopt", "guarantee": "none", "state": "current",
        "digest": f"d{row_id}", "parts": None, "weights": "", "composition": None, "metrics": None,
        "cost": None, "cpu_seconds": 0.0, "request_id": None, "created": "",
    }  # fmt: skip
    return ModelVersion(**{**own, **values})


DIGESTS = st.sampled_from([f"d{i}" for i in range(6)])


@st.composite
def families(draw: st.DrawFn) -> tuple[Ancestry, dict[int, set[str]]]:
    """Generate up to eight versions that share digests, start from each other, and forgot some requests."""
    count = draw(st.integers(1, 8))
    versions, keys, starts, seeds = {}, {}, {}, {}
    for i in range(count):
        forgotten = draw(st.sets(st.sampled_from(["r1", "r2"])))
        versions[i] = version(i, digest=draw(DIGESTS), composition={"forgotten": sorted(forgotten)})
        keys[i] = frozenset({versions[i].digest, *draw(st.sets(DIGESTS, max_size=1))})
        starts[i] = frozenset(draw(st.sets(DIGESTS, max_size=2)))
        seeds[i] = draw(st.sets(st.sampled_from(["r1", "r2"]), max_size=1))
    return Ancestry(versions, keys, starts), seeds


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(families())
def test_held_matches_slow_search(family: tuple[Ancestry, dict[int, set[str]]]) -> None:
    known, seeds = family

    def linked(i: int, j: int) -> bool:
        same = known.versions[j].digest in known.keys[i] or known.versions[i].digest in known.keys[j]
        return same or bool(known.keys[i] & known.starts[j])

    slow = {i: set(requests) for i, requests in seeds.items()}
    changed = True
    while changed:
        changed = False
        for i in slow:
            for j in slow:
                cleared = set((known.versions[j].composition or {})["forgotten"])
                if linked(i, j) and (new := slow[i] - cleared - slow[j]):
                    slow[j] |= new
                    changed = True
    found = known.held(seeds)
    assert {i: set(requests) for i, requests in found.items()} == {i: r for i, r in slow.items() if r}
    for i, requests in found.items():
        for request, link in requests.items():  # each link names the version that it came from
            assert link.kind == "data" if request in seeds[i] else request in found[link.source]


def test_part_shared_with_a_repaired_ensemble_is_clean() -> None:
    before = version(1, name="m", digest="e1", parts=["a", "b"])
    after = version(2, name="m", number=2, digest="e2", parts=["a", "c"])
    clean, hit = version(3, digest="a"), version(4, digest="b")
    versions = {p.id: p for p in (before, after, clean, hit)}
    keys = {i: frozenset({p.digest, *(p.parts or ())}) for i, p in versions.items()}
    known = Ancestry(versions, keys, dict.fromkeys(versions, frozenset()))
    assert set(known.held({1: ("r",)})) == {1, 4}


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((("a", "current"),), "current"),
        ((("a", "current"), ("b", "superseded")), "superseded"),
        ((("a", "superseded"), ("b", "current")), "superseded"),
        ((("a", "current"), ("b", "interim")), "interim"),
        ((("a", "superseded"), ("a", "current")), "current"),  # the same model returned to these weights
        ((("a", "current"), ("a", "superseded")), "superseded"),
    ],
)
def test_the_most_cautious_record_counts(states: tuple[tuple[str, str], ...], said: str) -> None:
    records = [version(i, name=name, number=i, state=state) for i, (name, state) in enumerate(states, 1)]
    found = state_of_weights(records[::-1], {})
    assert found is not None
    assert found.state == said
    held = state_of_weights(records[::-1], {1: ("r",)})
    assert held is not None
    assert held.state == "superseded", "one that holds what was erased, whatever is recorded"
    assert state_of_weights([], {}) is None
