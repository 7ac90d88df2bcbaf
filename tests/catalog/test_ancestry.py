# SPDX-License-Identifier: Apache-2.0
"""Which versions hold what was erased, against a slow search; and what may be said of weights."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expunge.catalog.ancestry import Ancestry
from expunge.catalog.models import Published
from expunge.catalog.standings import judge


def version(row_id: int, **values: Any) -> Published:
    """A version of a model of its own."""
    own = {
        "id": row_id, "name": f"m{row_id}", "task": "detect", "number": 1, "parent": None, "dataset_id": 1,
        "dataset": "shop", "dataset_version": 1, "retained_digest": "", "samples": 1, "subjects": 1,
        "plan_digest": None, "method": "adopt", "guarantee": "none", "state": "current",
        "digest": f"d{row_id}", "parts": None, "weights": "", "composition": None, "metrics": None,
        "cost": None, "cpu_seconds": 0.0, "request_id": None, "created": "",
    }  # fmt: skip
    return Published(**{**own, **values})


DIGESTS = st.sampled_from([f"d{i}" for i in range(6)])


@st.composite
def families(draw: st.DrawFn) -> tuple[Ancestry, dict[int, set[str]]]:
    """Up to eight versions that share digests, begin from each other, and have forgotten some requests."""
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
def test_held_is_all_that_can_be_reached(family: tuple[Ancestry, dict[int, set[str]]]) -> None:
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
        for request, link in requests.items():  # and each says from which version it came
            assert link.kind == "data" if request in seeds[i] else request in found[link.source]


def test_a_part_that_a_repaired_ensemble_has_too_did_not_see_it() -> None:
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
        ((("a", "superseded"), ("a", "current")), "current"),  # gone back to, under the same name
        ((("a", "current"), ("a", "superseded")), "superseded"),
    ],
)
def test_the_most_cautious_record_counts(states: tuple[tuple[str, str], ...], said: str) -> None:
    records = [version(i, name=name, number=i, state=state) for i, (name, state) in enumerate(states, 1)]
    found = judge(records[::-1], {})
    assert found is not None
    assert found.state == said
    held = judge(records[::-1], {1: ("r",)})
    assert held is not None
    assert held.state == "superseded", "one that holds what was erased, whatever is recorded"
    assert judge([], {}) is None
