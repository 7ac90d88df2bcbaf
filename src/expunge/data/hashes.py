# SPDX-License-Identifier: Apache-2.0
"""Perceptual hashes of a dataset's pictures, kept in one file by the digest of each picture's bytes.

The file is personal data: it holds digests and hashes of people's pictures. What was erased is taken out by
``keep_only``, and `expunge purge` deletes a file in which some of it is left.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.data.phash import NotAPicture, hash_picture
from expunge.data.types import Sample
from expunge.exact.checkpoint import write_atomically
from expunge.user_files import read_bytes

ROW = np.dtype([("digest", "S32"), ("value", "<u8"), ("mirrored", "<u8"), ("flat", "?")])
BATCH = 512


@dataclass(frozen=True)
class Hashing:
    """The hashes of some samples.

    Attributes:
        rows: (N,) of dtype ``ROW``, in the order of the samples; without a hash the digest is empty.
        computed: How many were not known before.
        unreadable: How many files cannot be read or decoded.
        changed: How many files are not those of the manifest any more.
    """

    rows: NDArray[np.void]
    computed: int
    unreadable: int
    changed: int

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) which samples have a hash."""
        return np.asarray(self.rows["digest"] != b"")


def hash_samples(
    root: Path,
    samples: Sequence[Sample],
    cache: Path,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Hashing:
    """Hash the pictures of samples; what the cache knows is not read again, and what is new is added to it.

    Args:
        root: The dataset's folder.
        samples: Which.
        cache: The file of hashes; made where it is missing.
        threads: How many pictures to decode at once.
        progress: Called with how many are done, of how many.
    """
    rows, found = _look_up(read(cache), samples)
    missing: dict[str, list[int]] = {}
    for index in np.flatnonzero(~found).tolist():
        missing.setdefault(samples[index].image_digest, []).append(index)
    counts = {"computed": 0, "unreadable": 0, "changed": 0}
    todo = list(missing.items())
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(todo), BATCH):
            part = todo[start : start + BATCH]
            paths = [root / samples[indices[0]].path for _, indices in part]
            made = pool.map(_hash, paths, [digest for digest, _ in part])
            for (_, indices), (row, what) in zip(part, made, strict=True):
                counts[what] += 1
                if row is not None:
                    for index in indices:
                        rows[index] = row
            if progress is not None:
                progress(min(start + BATCH, len(todo)), len(todo))
    if counts["computed"]:
        new = [index for indices in missing.values() for index in indices[:1] if rows[index]["digest"]]
        write(cache, np.concatenate([read(cache), rows[new]]))
    return Hashing(rows, **counts)


def keep_only(cache: Path, digests: Collection[bytes]) -> int:
    """Take out of a cache what is not among the given digests (raw); returns how many rows that were."""
    rows = read(cache)
    if not len(rows):
        return 0
    keep = np.fromiter((row.ljust(32, b"\0") in digests for row in rows["digest"]), bool, len(rows))
    if not keep.all():
        wipe(cache)
        if keep.any():
            write(cache, rows[keep])
    return int((~keep).sum())


def read(cache: Path) -> NDArray[np.void]:
    """Return the rows of a cache: none where it is missing, or not what was written to it."""
    try:
        rows = np.load(io.BytesIO(cache.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, ROW)
    return rows if rows.dtype == ROW and rows.ndim == 1 else np.zeros(0, ROW)


def write(cache: Path, rows: NDArray[np.void]) -> None:
    """Write a cache, each digest once."""
    _, first = np.unique(rows["digest"], return_index=True)
    buffer = io.BytesIO()
    np.save(buffer, rows[first], allow_pickle=False)
    write_atomically(cache, buffer.getvalue(), "The cache of perceptual hashes")
    cache.chmod(0o600)


def wipe(cache: Path) -> None:
    """Overwrite and delete a cache."""
    with open(cache, "r+b") as file:
        file.write(b"\0" * cache.stat().st_size)
        file.flush()
    cache.unlink()


def _look_up(
    known: NDArray[np.void], samples: Sequence[Sample]
) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    """Return the known row of each sample (else an empty one), and which samples have one."""
    rows, found = np.zeros(len(samples), ROW), np.zeros(len(samples), bool)
    if len(known):
        wanted = np.fromiter((bytes.fromhex(s.image_digest) for s in samples), "S32", len(samples))
        places = np.minimum(np.searchsorted(known["digest"], wanted), len(known) - 1)
        found = known["digest"][places] == wanted  # numpy takes zero bytes at the end as none, on both sides
        rows[found] = known[places[found]]
    return rows, found


def _hash(path: Path, digest: str) -> tuple[tuple[bytes, int, int, bool] | None, str]:
    try:
        data = read_bytes(path)
    except OSError:
        return None, "unreadable"
    if hashlib.sha256(data).hexdigest() != digest:
        return None, "changed"
    try:
        found = hash_picture(data)
    except NotAPicture:
        return None, "unreadable"
    return (bytes.fromhex(digest), found.value, found.mirrored, found.flat), "computed"
