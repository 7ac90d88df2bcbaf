# SPDX-License-Identifier: Apache-2.0
"""Find near-duplicate images that are assigned to different subjects, or to none.

The search has two stages. Perceptual hashes give candidates: every pair within a Hamming distance (see
``hamming``). The correlation of the two images, in greyscale at 64×64, confirms or rejects each candidate.
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
from expunge.data.hashes import ImageHashes
from expunge.data.phash import NotAnImage, grey, similarity
from expunge.data.types import Sample
from expunge.storage.user_files import read_bytes

DISTANCE = 3
SIMILARITY = 0.9
LIMIT = 10_000
SIDE = 64
CACHE_SIZE = 4096  # images at 64×64 held while candidates are confirmed: 64 MiB


@dataclass(frozen=True)
class Pair:
    """Two samples that look alike and have different subjects.

    Attributes:
        a, b: Indices of the samples. In a search for one subject, ``a`` belongs to the subject.
        distance: Hamming distance of the hashes, in bits.
        similarity: Correlation of the images, −1 to 1 (1 if the bytes are equal).
        flipped: Whether one image was mirrored for the comparison.
        identical: Whether the bytes are equal.
    """

    a: int
    b: int
    distance: int
    similarity: float
    flipped: bool
    identical: bool


@dataclass(frozen=True)
class DuplicateSearch:
    """The result of a search.

    Attributes:
        pairs: The confirmed pairs.
        candidates: Number of candidates compared.
        truncated: Whether there are more pairs than the limit.
    """

    pairs: tuple[Pair, ...]
    candidates: int
    truncated: bool


def find_duplicates(
    root: Path,
    samples: Sequence[Sample],
    hashing: ImageHashes,
    *,
    subject: str | None = None,
    distance: int = DISTANCE,
    threshold: float = SIMILARITY,
    limit: int = LIMIT,
) -> DuplicateSearch:
    """Return pairs of samples that look alike and have different subjects, most similar first.

    Args:
        root: The dataset's folder.
        samples: The dataset's samples.
        hashing: Hashes of the samples.
        subject: Only pairs of a sample of this subject and a sample without it.
        distance: Largest Hamming distance in bits: at most 7, or unlimited if a subject is given.
        threshold: Smallest correlation.
        limit: Largest number of pairs.
    """
    usable = np.flatnonzero(hashing.known & ~hashing.rows["flat"])
    pictures = _Pictures(root, samples)
    pairs: dict[tuple[int, int], Pair] = {}
    candidates = 0
    for a, b, bits, flipped in _candidates(samples, hashing, usable, subject, distance):
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
    return DuplicateSearch(tuple(ordered[:limit]), candidates, len(pairs) > limit)


def as_json(pair: Pair, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return a pair as listed by ``data duplicates --json``."""
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
    hashing: ImageHashes,
    usable: NDArray[np.int64],
    subject: str | None,
    distance: int,
) -> Iterator[tuple[int, int, int, bool]]:
    """Yield candidate pairs (a, b, distance in bits, flipped) of samples with different subjects."""
    values = np.ascontiguousarray(hashing.rows["value"][usable])
    mirrored = np.ascontiguousarray(hashing.rows["mirrored"][usable])
    if subject is not None:
        of_subject = [int(k) for k in range(len(usable)) if subject in samples[int(usable[k])].subjects]
        for k in of_subject:
            a = int(usable[k])
            for wanted, flipped in ((int(values[k]), False), (int(mirrored[k]), True)):
                for other in hamming.near(values, wanted, distance):
                    b = int(usable[other])
                    if subject not in samples[b].subjects:
                        yield a, b, (wanted ^ int(values[other])).bit_count(), flipped
        return
    for flipped, against in ((False, None), (True, mirrored)):
        for first, second, bits in hamming.near_pairs(values, distance, against):
            for i, j, d in zip(usable[first].tolist(), usable[second].tolist(), bits.tolist(), strict=True):
                if samples[i].subjects != samples[j].subjects:
                    yield i, j, d, flipped


class _Pictures:
    """Greyscale images of samples, with a cache of the most recently used."""

    def __init__(self, root: Path, samples: Sequence[Sample]) -> None:
        self._root, self._samples = root, samples
        self._cache: OrderedDict[int, NDArray[np.float32] | None] = OrderedDict()

    def compare(self, a: int, b: int, flipped: bool) -> float:
        """Return the correlation of two images; 0 if one cannot be read.

        Args:
            a: Index of the first sample.
            b: Index of the second sample.
            flipped: Mirror the second image.
        """
        first, second = self._load(a), self._load(b)
        if first is None or second is None:
            return 0.0
        second = second[:, ::-1] if flipped else second
        return similarity(first.astype(np.float64), second.astype(np.float64))

    def _load(self, index: int) -> NDArray[np.float32] | None:
        if index not in self._cache:
            try:
                data = read_bytes(self._root / self._samples[index].path)
                self._cache[index] = grey(data, SIDE).astype(np.float32)
            except (OSError, NotAnImage):
                self._cache[index] = None
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(index)
        return self._cache[index]
