# SPDX-License-Identifier: Apache-2.0
"""Perceptual hashes of a dataset's images, cached in one file by the digest of each image's bytes.

The file is personal data: it holds digests and hashes of images of people. ``keep_only`` removes erased
images from it, and `expunge purge` deletes a file that still holds erased images.
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

from expunge.data.phash import NotAnImage, hash_picture
from expunge.data.types import Sample
from expunge.storage.files import write_atomically
from expunge.storage.user_files import read_bytes

ROW = np.dtype([("digest", "S32"), ("value", "<u8"), ("mirrored", "<u8"), ("flat", "?")])
BATCH = 512


@dataclass(frozen=True)
class ImageHashes:
    """Hashes of samples.

    Attributes:
        rows: (N,) of dtype ``ROW``, in the order of the samples. The digest is empty if there is no hash.
        computed: Number of hashes that were not in the cache.
        unreadable: Number of files that cannot be read or decoded.
        changed: Number of files that no longer match the manifest.
    """

    rows: NDArray[np.void]
    computed: int
    unreadable: int
    changed: int

    @property
    def known(self) -> NDArray[np.bool_]:
        """Mask (N,) of the samples that have a hash."""
        return np.asarray(self.rows["digest"] != b"")


def hash_samples(
    root: Path,
    samples: Sequence[Sample],
    cache: Path,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ImageHashes:
    """Return the hashes of samples. Cached images are not read again; new hashes are added to the cache.

    Args:
        root: The dataset's folder.
        samples: The samples.
        cache: The cache file. It is created if missing.
        threads: Number of images to decode at once.
        progress: Called with the number of images done and the number of all images.
    """
    rows, found = _look_up(read(cache), samples)
    missing: dict[str, list[int]] = {}
    for index in np.flatnonzero(~found).tolist():
        missing.setdefault(samples[index].image_digest, []).append(index)
    counts = {"computed": 0, "unreadable": 0, "changed": 0}
    pending = list(missing.items())
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pending), BATCH):
            part = pending[start : start + BATCH]
            paths = [root / samples[indices[0]].path for _, indices in part]
            hashed = pool.map(_hash, paths, [digest for digest, _ in part])
            for (_, indices), (row, outcome) in zip(part, hashed, strict=True):
                counts[outcome] += 1
                if row is not None:
                    for index in indices:
                        rows[index] = row
            if progress is not None:
                progress(min(start + BATCH, len(pending)), len(pending))
    if counts["computed"]:
        new = [index for indices in missing.values() for index in indices[:1] if rows[index]["digest"]]
        write(cache, np.concatenate([read(cache), rows[new]]))
    return ImageHashes(rows, **counts)


def keep_only(cache: Path, digests: Collection[bytes]) -> int:
    """Remove the rows whose raw digest is not among the given ones; return the number removed."""
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
    """Return the rows of a cache; no rows if the file is missing or damaged."""
    try:
        rows = np.load(io.BytesIO(cache.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, ROW)
    return rows if rows.dtype == ROW and rows.ndim == 1 else np.zeros(0, ROW)


def write(cache: Path, rows: NDArray[np.void]) -> None:
    """Write rows to a cache, one per digest."""
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
    """Return the cached row of each sample (N,), empty if there is none, and a mask (N,) of those found."""
    rows, found = np.zeros(len(samples), ROW), np.zeros(len(samples), bool)
    if len(known):
        wanted = np.fromiter((bytes.fromhex(s.image_digest) for s in samples), "S32", len(samples))
        places = np.minimum(np.searchsorted(known["digest"], wanted), len(known) - 1)
        found = known["digest"][places] == wanted  # numpy strips trailing zero bytes on both sides
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
    except NotAnImage:
        return None, "unreadable"
    return (bytes.fromhex(digest), found.value, found.mirrored, found.flat), "computed"
