# SPDX-License-Identifier: Apache-2.0
"""Recognises copies of erased pictures, by name and by content, after the originals are gone.

What is compared are keyed digests of the suppression list: of a picture's path, of its bytes, of its pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from expunge.catalog.macs import suppression_mac
from expunge.catalog.roots import all_roots
from expunge.catalog.selection import retains_image
from expunge.catalog.suppression import erased_by
from expunge.data.listing import IMAGE_SUFFIXES
from expunge.data.pixels import pixel_digest, readings
from expunge.errors import InputError
from expunge.purge.kinds import Leftover
from expunge.purge.tree import Changed, Entry, opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

NUMPY = b"\x93NUMPY"
MAX_FILE_BYTES = 1 << 28  # a larger file is no decoded picture
SUFFIXES = tuple(sorted({case for s in IMAGE_SUFFIXES for case in (s, s.upper())}))


@dataclass(frozen=True)
class ErasedPictures:
    """What is known of erased pictures.

    Attributes:
        key: The workspace's secret.
        macs: For each keyed digest on the suppression list the request that put it there.
        roots: The folders of each dataset, present and earlier ones, as (name, real path).
        retained: Whether a picture with that SHA-256 is retained in any dataset.
        kept: Real paths of originals that a request still waits for; they are not a purge's to delete.
    """

    key: bytes
    macs: Mapping[str, str]
    roots: Sequence[tuple[str, PurePosixPath]]
    retained: Callable[[str], bool]
    kept: frozenset[str]

    @classmethod
    def read(cls, session: Session, key: bytes, kept: frozenset[str]) -> ErasedPictures:
        """Read the suppression list and the datasets' folders."""
        roots = [(name, PurePosixPath(os.path.realpath(root))) for name, root in all_roots(session)]
        return cls(key, erased_by(session), roots, lambda digest: retains_image(session, digest), kept)

    def copy_of(self, entry: Entry) -> Leftover | None:
        """Return a file as a leftover if it is a copy of an erased picture."""
        path = os.fsdecode(entry.path)
        suffix = entry.name.rpartition(b".")[2].lower().decode("ascii", "replace")
        if not self.macs or path in self.kept or entry.size_bytes > MAX_FILE_BYTES:
            return None
        if suffix == "npy":
            return self._decoded(entry, path)
        if suffix in IMAGE_SUFFIXES:
            return self._picture(entry)
        return None

    def _decoded(self, entry: Entry, path: str) -> Leftover | None:
        content = _content(entry)
        if not content.startswith(NUMPY):
            return None
        request = self._by_name(path)
        if request is not None:
            return Leftover(
                entry, "decoded", "the decoded form of an erased picture, by its name", (request,)
            )
        array = _array(content)
        request = self._by_pixels(readings(array)) if array is not None else None
        if request is not None:
            return Leftover(
                entry, "decoded", "the decoded form of an erased picture, by its pixels", (request,)
            )
        return None

    def _picture(self, entry: Entry) -> Leftover | None:
        from expunge.tasks.images import decode

        content = _content(entry)
        digest = hashlib.sha256(content).hexdigest()
        if not content or self.retained(digest):
            return None
        request = self._request("image", "", digest)
        if request is not None:
            return Leftover(entry, "picture", "byte for byte an erased picture", (request,))
        try:
            request = self._by_pixels([decode(content, "the file")])
        except InputError:
            return None
        if request is not None:
            return Leftover(entry, "picture", "pixel for pixel an erased picture", (request,))
        return None

    def _by_name(self, path: str) -> str | None:
        """The request that erased a picture of which this path, but for the suffix, is the path."""
        place = PurePosixPath(path)
        for name, root in self.roots:
            if place.is_relative_to(root):
                stem = str(place.relative_to(root).with_suffix(""))
                for suffix in SUFFIXES:
                    if request := self._request("sample", name, f"{stem}.{suffix}"):
                        return request
        return None

    def _by_pixels(self, pictures: Iterable[NDArray[np.uint8]]) -> str | None:
        for picture in pictures:
            if request := self._request("decoded", "", pixel_digest(picture)):
                return request
        return None

    def _request(self, kind: str, dataset: str, value: str) -> str | None:
        return self.macs.get(suppression_mac(self.key, kind, dataset, value))


def _content(entry: Entry) -> bytes:
    """A file's bytes; none where it cannot be read or has changed."""
    try:
        with opened(entry) as handle:
            return b"".join(_chunks(handle, entry.size_bytes))
    except (OSError, Changed):
        return b""


def _chunks(handle: int, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left > 0 and (chunk := os.read(handle, left)):
        left -= len(chunk)
        yield chunk


def _array(content: bytes) -> Any:
    import numpy as np

    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError):
        return None
