# SPDX-License-Identifier: Apache-2.0
"""Find all pairs of 64-bit hashes within a small Hamming distance, in bounded memory.

Multi-index hashing (Norouzi, Punjani & Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing",
section 2): a hash is cut into 4 bands of 16 bits. If two hashes differ in at most 3 bits, at least one band
is equal; if they differ in at most 7, at least one band differs in at most 1 bit. The buckets of equal bands
(and of bands one bit away) therefore hold every such pair, whatever the data. Each pair is reported once, by
the first band that finds it. Memory is bounded by the number of hashes. Time grows with the square of the
largest bucket, which is small for diverse hashes (15 for a million random ones).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BANDS = 4
WIDTH = 16  # bits per band
MAX_DISTANCE = 2 * BANDS - 1
CHUNK = 1 << 20  # candidate pairs compared at once
Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]


def near_pairs(
    hashes: Hashes, distance: int, mirrored: Hashes | None = None
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Yield all pairs (i, j), i < j, that differ in at most ``distance`` bits, in chunks.

    Args:
        hashes: (N,) 64-bit hashes.
        distance: Largest Hamming distance, at most 7.
        mirrored: (N,) If given, hash i is compared with mirrored hash j instead of hash j.

    Yields:
        Three arrays (K,): indices i, indices j, and the distances in bits.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance is 0 to {MAX_DISTANCE}")
    radius = distance // BANDS
    flips = (0, *(1 << bit for bit in range(WIDTH))) if radius else (0,)
    for band in range(BANDS):
        left = _sort_by_band(hashes, band)
        right = left if mirrored is None else _sort_by_band(mirrored, band)
        for flip in flips:
            yield from _pairs_in_buckets(left, right, band, flip, radius, distance)


def near(hashes: Hashes, wanted: int, distance: int) -> Indices:
    """Return the indices of the hashes within ``distance`` bits of ``wanted``. Any distance is allowed."""
    return np.flatnonzero(np.bitwise_count(hashes ^ np.uint64(wanted)) <= distance)


@dataclass(frozen=True)
class _SortedHashes:
    """Hashes sorted by one band.

    Attributes:
        order: (N,) Original index of each hash.
        hashes: (N,) Hashes in sorted order.
        keys: (N,) Band of each hash.
        offsets: (2**16 + 1,) Position where each key begins.
    """

    order: NDArray[np.int32]
    hashes: Hashes
    keys: NDArray[np.uint16]
    offsets: Indices


def _sort_by_band(hashes: Hashes, band: int) -> _SortedHashes:
    keys = _band(hashes, band).astype(np.uint16)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    counts = np.bincount(keys, minlength=1 << WIDTH)
    return _SortedHashes(order, hashes[order], keys[order], np.concatenate(([0], np.cumsum(counts))))


def _band(hashes: Hashes, band: int) -> Hashes:
    return (hashes >> np.uint64(WIDTH * band)) & np.uint64((1 << WIDTH) - 1)


def _pairs_in_buckets(
    left: _SortedHashes, right: _SortedHashes, band: int, flip: int, radius: int, distance: int
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Yield the pairs within ``distance`` whose keys are equal after flipping the bits of ``flip``."""
    partner = left.keys ^ np.uint16(flip)
    begin = right.offsets[partner]
    counts = right.offsets[partner.astype(np.int64) + 1] - begin
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        sizes = counts[start:stop]
        total = int(ends[stop - 1]) - done
        i = np.repeat(np.arange(start, stop), sizes)
        j = np.arange(total) - np.repeat(ends[start:stop] - sizes - done - begin[start:stop], sizes)
        different = left.hashes[i] ^ right.hashes[j]
        bits = np.bitwise_count(different)
        keep = bits <= distance
        for earlier in range(band):
            keep &= np.bitwise_count(_band(different, earlier)) > radius
        first, second = left.order[i[keep]].astype(np.int64), right.order[j[keep]].astype(np.int64)
        once = first < second
        if once.any():
            yield first[once], second[once], bits[keep][once].astype(np.int64)
        start = stop
