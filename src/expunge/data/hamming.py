# SPDX-License-Identifier: Apache-2.0
"""All pairs of 64-bit hashes that differ in few bits, among many, in bounded memory.

Multi-index hashing (Norouzi, Punjani & Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing",
section 2): a hash is cut into 4 bands of 16 bits. If two hashes differ in at most 3 bits, at least one band
is equal; if they differ in at most 7, at least one band differs in at most 1 bit. So the buckets of equal
bands (and of bands one bit away) hold every such pair: nothing is missed, whatever the data. Each pair is
reported once, by the first band that finds it. Memory is bounded by the number of hashes; time grows with the
square of the largest bucket, which is small where hashes differ (15 of a million random ones).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BANDS = 4
WIDTH = 16
MOST = 2 * BANDS - 1
CHUNK = 1 << 20  # candidate pairs compared at once
Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]


def near_pairs(
    hashes: Hashes, distance: int, mirrored: Hashes | None = None
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Yield all pairs (i, j), i < j, that differ in at most ``distance`` bits, with how many, in pieces.

    Args:
        hashes: (N,) 64-bit hashes.
        distance: At most 7.
        mirrored: (N,) If given, hash i is compared with mirrored hash j instead of with hash j.
    """
    if not 0 <= distance <= MOST:
        raise ValueError(f"distance is 0 to {MOST}")
    radius = distance // BANDS
    flips = (0, *(1 << bit for bit in range(WIDTH))) if radius else (0,)
    for band in range(BANDS):
        left = _sorted(hashes, band)
        right = left if mirrored is None else _sorted(mirrored, band)
        for flip in flips:
            yield from _near(left, right, band, flip, radius, distance)


def near(hashes: Hashes, wanted: int, distance: int) -> Indices:
    """Return the indices of the hashes that differ from one in at most ``distance`` bits (any number)."""
    return np.flatnonzero(np.bitwise_count(hashes ^ np.uint64(wanted)) <= distance)


@dataclass(frozen=True)
class _Sorted:
    """Hashes in the order of one band: where each comes from, and where each key begins."""

    order: NDArray[np.int32]
    hashes: Hashes
    keys: NDArray[np.uint16]
    offsets: Indices


def _sorted(hashes: Hashes, band: int) -> _Sorted:
    keys = _part(hashes, band).astype(np.uint16)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    counts = np.bincount(keys, minlength=1 << WIDTH)
    return _Sorted(order, hashes[order], keys[order], np.concatenate(([0], np.cumsum(counts))))


def _part(hashes: Hashes, band: int) -> Hashes:
    return (hashes >> np.uint64(WIDTH * band)) & np.uint64((1 << WIDTH) - 1)


def _near(
    left: _Sorted, right: _Sorted, band: int, flip: int, radius: int, distance: int
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Compare each hash with the bucket of its own band, with one bit of the key flipped or none."""
    partner = left.keys ^ np.uint16(flip)
    begin = right.offsets[partner]
    counts = right.offsets[partner.astype(np.int64) + 1] - begin
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        several = counts[start:stop]
        total = int(ends[stop - 1]) - done
        i = np.repeat(np.arange(start, stop), several)
        j = np.arange(total) - np.repeat(ends[start:stop] - several - done - begin[start:stop], several)
        different = left.hashes[i] ^ right.hashes[j]
        bits = np.bitwise_count(different)
        keep = bits <= distance
        for earlier in range(band):
            keep &= np.bitwise_count(_part(different, earlier)) > radius
        first, second = left.order[i[keep]].astype(np.int64), right.order[j[keep]].astype(np.int64)
        once = first < second
        if once.any():
            yield first[once], second[once], bits[keep][once].astype(np.int64)
        start = stop
