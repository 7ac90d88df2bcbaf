# SPDX-License-Identifier: Apache-2.0
"""Near pairs of hashes, compared with brute force: none missing, none twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.data import hamming
from expunge.data.hamming import near, near_pairs


def brute(hashes: np.ndarray, distance: int, others: np.ndarray | None = None) -> dict[tuple[int, int], int]:
    """Return all near pairs by comparing each pair."""
    right = hashes if others is None else others
    return {
        (i, j): bits
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (bits := (int(hashes[i]) ^ int(right[j])).bit_count()) <= distance
    }


def found(hashes: np.ndarray, distance: int, others: np.ndarray | None = None) -> dict[tuple[int, int], int]:
    """Return all pairs found, and fail if a pair occurs twice."""
    result: dict[tuple[int, int], int] = {}
    for i, j, bits in near_pairs(hashes, distance, others):
        for a, b, d in zip(i.tolist(), j.tolist(), bits.tolist(), strict=True):
            assert (a, b) not in result
            result[a, b] = d
    return result


# Clusters around a few centres; all flipped bits may lie in one band.
clusters = st.lists(
    st.tuples(
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF, 0xFFFF0000FFFF0000]),
        st.lists(st.integers(0, 63), max_size=9),
    ),
    max_size=40,
)


def hashes_of(plan: list[tuple[int, list[int]]]) -> np.ndarray:
    values = []
    for value, bits in plan:
        for bit in bits:
            value ^= 1 << bit
        values.append(value)
    return np.array(values, dtype=np.uint64)


@settings(max_examples=150, deadline=None)
@given(
    plan=clusters,
    others=clusters,
    distance=st.integers(0, hamming.MAX_DISTANCE),
    chunk=st.sampled_from([1, 7, 1 << 20]),
)
def test_equals_brute_force(
    plan: list[tuple[int, list[int]]], others: list[tuple[int, list[int]]], distance: int, chunk: int
) -> None:
    hashes, before = hashes_of(plan), hamming.CHUNK
    try:
        hamming.CHUNK = chunk
        assert found(hashes, distance) == brute(hashes, distance)
        mirrored = hashes_of((others + plan)[: len(plan)])
        assert found(hashes, distance, mirrored) == brute(hashes, distance, mirrored)
    finally:
        hamming.CHUNK = before


def test_random_hashes_with_planted_pairs() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for k in range(100):
        for bit in rng.choice(64, k % 9, replace=False):
            hashes[200 + k] = hashes[k] ^ (np.uint64(1) << np.uint64(bit))
    for distance in range(hamming.MAX_DISTANCE + 1):
        assert found(hashes, distance) == brute(hashes, distance)


def test_a_query_at_any_distance() -> None:
    hashes = np.random.default_rng(1).integers(0, 2**64, 500, dtype=np.uint64)
    wanted = int(hashes[7])
    for distance in (0, 20, 30, 64):
        expected = [k for k in range(500) if (int(hashes[k]) ^ wanted).bit_count() <= distance]
        assert near(hashes, wanted, distance).tolist() == expected


def test_unsupported_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 7"):
        list(near_pairs(np.zeros(2, np.uint64), 8))
