# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates of people's pictures under another subject, or under none.

Two stages: perceptual hashes find candidates (every pair within the distance, see ``hamming``), and the
correlation of the pictures themselves, in grey at 64×64, confirms or rejects each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.data import hamming
from expunge.data.hashes import Hashing
from expunge.data.phash import NotAPicture, grey, similarity
from expunge.data.types import Sample
from expunge.user_files import read_bytes

DISTANCE = 3
SIMILARITY = 0.9
LIMIT = 10_000
SIDE = 64
KEPT = 4096  # pictures at 64×64 held while candidates are confirmed: 128 MiB


@dataclass(frozen=True)
class Pair:
    """Two samples that look alike and do not concern the same people.

    Attributes:
        a, b: The samples, as indices; of a query for one subject, ``a`` is the subject's.
        distance: Bits by which their hashes differ.
        similarity: Correlation of the pictures, −1 to 1 (1 where the bytes are equal).
        flipped: Whether one was mirrored to compare them.
        identical: Whether the bytes are equal.
    """

    a: int
    b: int
    distance: int
    similarity: float
    flipped: bool
    identical: bool


@dataclass(frozen=True)
class Found:
    """The pairs, and how many candidates were looked at; ``truncated``: more remain than the limit."""

    pairs: tuple[Pair, ...]
    candidates: int
    truncated: bool


def find(
    root: Path,
    samples: Sequence[Sample],
    hashing: Hashing,
    *,
    subject: str | None = None,
    distance: int = DISTANCE,
    threshold: float = SIMILARITY,
    limit: int = LIMIT,
) -> Found:
    """Find pairs that look alike and whose subjects differ.

    Args:
        root: The dataset's folder.
        samples: Its samples.
        hashing: Their hashes.
        subject: Only pairs of one subject's pictures with pictures that this subject is not in.
        distance: Bits by which hashes may differ: at most 7, or anything where a subject is given.
        threshold: The least correlation.
        limit: The most pairs.
    """
    use = np.flatnonzero(hashing.known & ~hashing.rows["flat"])
    pictures = _Pictures(root, samples)
    pairs: dict[tuple[int, int], Pair] = {}
    candidates = 0
    for a, b, bits, flipped in _candidates(samples, hashing, use, subject, distance):
        candidates += 1
        if (a, b) in pairs and not flipped:
            continue
        identical = samples[a].image_digest == samples[b].image_digest
        score = 1.0 if identical else pictures.compare(a, b, flipped)
        if score < threshold:
            continue
        known = pairs.get((a, b))
        if known is None or score > known.similarity:
            pairs[a, b] = Pair(a, b, bits, round(score, 4), flipped, identical)
        if len(pairs) > limit:
            break
    ordered = sorted(
        pairs.values(), key=lambda p: (-p.similarity, p.distance, samples[p.a].path, samples[p.b].path)
    )
    return Found(tuple(ordered[:limit]), candidates, len(pairs) > limit)


def as_json(pair: Pair, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return a pair as ``data duplicates --json`` lists it."""
    a, b = samples[pair.a], samples[pair.b]
    return {
        "a": a.path,
        "b": b.path,
        "distance": pair.distance,
        "similarity": pair.similarity,
        "flipped": pair.flipped,
        "identical": pair.identical,
        "subjects_a": list(a.subjects),
        "subjects_b": list(b.subjects),
    }


def _candidates(
    samples: Sequence[Sample],
    hashing: Hashing,
    use: NDArray[np.int64],
    subject: str | None,
    distance: int,
) -> Iterator[tuple[int, int, int, bool]]:
    """Yield (a, b, bits, flipped) whose subjects differ; b may show the same people as a nowhere else."""
    values = np.ascontiguousarray(hashing.rows["value"][use])
    mirrored = np.ascontiguousarray(hashing.rows["mirrored"][use])
    if subject is not None:
        mine = [int(k) for k in range(len(use)) if subject in samples[int(use[k])].subjects]
        for k in mine:
            a = int(use[k])
            for wanted, flipped in ((int(values[k]), False), (int(mirrored[k]), True)):
                for other in hamming.near(values, wanted, distance):
                    b = int(use[other])
                    if subject not in samples[b].subjects:
                        yield a, b, (wanted ^ int(values[other])).bit_count(), flipped
        return
    for flipped, against in ((False, None), (True, mirrored)):
        for first, second, bits in hamming.near_pairs(values, distance, against):
            for i, j, d in zip(use[first].tolist(), use[second].tolist(), bits.tolist(), strict=True):
                if samples[i].subjects != samples[j].subjects:
                    yield i, j, d, flipped


class _Pictures:
    """Pictures in grey, the last ones kept."""

    def __init__(self, root: Path, samples: Sequence[Sample]) -> None:
        self._root, self._samples = root, samples
        self._kept: OrderedDict[int, NDArray[np.float32] | None] = OrderedDict()

    def compare(self, a: int, b: int, flipped: bool) -> float:
        """Return the correlation of two pictures, the second mirrored or not; 0 if one cannot be read."""
        one, two = self._load(a), self._load(b)
        if one is None or two is None:
            return 0.0
        return similarity(one.astype(np.float64), (two[:, ::-1] if flipped else two).astype(np.float64))

    def _load(self, index: int) -> NDArray[np.float32] | None:
        if index not in self._kept:
            try:
                data = read_bytes(self._root / self._samples[index].path)
                self._kept[index] = grey(data, SIDE).astype(np.float32)
            except (OSError, NotAPicture):
                self._kept[index] = None
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]
