# SPDX-License-Identifier: Apache-2.0
"""Recognises copies of erased images by name and by content, without the originals.

The keyed digests of a file's path, bytes and pixels are compared with those of the suppression list.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from expunge.catalog.dataset_folders import all_folders
from expunge.catalog.selection import retains_image
from expunge.catalog.suppression import suppressing_requests
from expunge.data.listing import IMAGE_SUFFIXES
from expunge.data.pixels import image_layouts, pixel_digest
from expunge.errors import InputError
from expunge.purge.kinds import Leftover
from expunge.purge.tree import Entry, FileChanged, open_entry
from expunge.storage.keyed_digests import suppression_mac

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

NUMPY = b"\x93NUMPY"
MAX_FILE_BYTES = 1 << 28  # larger files are not decoded images
SUFFIXES = tuple(sorted({case for s in IMAGE_SUFFIXES for case in (s, s.upper())}))


@dataclass(frozen=True)
class ErasedImages:
    """The digests of erased images, with which files are compared.

    Attributes:
        key: The workspace's secret.
        macs: Id of the erasing request for each keyed digest on the suppression list.
        roots: Present and earlier folders of each dataset, as (name of the dataset, real path).
        retained: Returns whether an image with a SHA-256 (hex) is retained in any dataset.
        kept: Real paths of originals that belong to an unfinished request; a purge must not delete them.
    """

    key: bytes
    macs: Mapping[str, str]
    roots: Sequence[tuple[str, PurePosixPath]]
    retained: Callable[[str], bool]
    kept: frozenset[str]

    @classmethod
    def read(cls, session: Session, key: bytes, kept: frozenset[str]) -> ErasedImages:
        """Read the suppression list and the datasets' folders."""
        roots = [(name, PurePosixPath(os.path.realpath(root))) for name, root in all_folders(session)]
        return cls(
            key, suppressing_requests(session), roots, lambda digest: retains_image(session, digest), kept
        )

    def copy_of(self, entry: Entry) -> Leftover | None:
        """Return a file as a leftover if it is a copy of an erased image; None if not."""
        path = os.fsdecode(entry.path)
        suffix = entry.name.rpartition(b".")[2].lower().decode("ascii", "replace")
        if not self.macs or path in self.kept or entry.size_bytes > MAX_FILE_BYTES:
            return None
        if suffix == "npy":
            return self._decoded_copy(entry, path)
        if suffix in IMAGE_SUFFIXES:
            return self._image_copy(entry)
        return None

    def _decoded_copy(self, entry: Entry, path: str) -> Leftover | None:
        """Return a NumPy file as a leftover if it is the decoded form of an erased image."""
        content = _content(entry)
        if not content.startswith(NUMPY):
            return None
        request = self._request_by_name(path)
        if request is not None:
            return Leftover(
                entry, "decoded", "the decoded form of an erased picture, by its name", (request,)
            )
        array = _array(content)
        request = self._request_by_pixels(image_layouts(array)) if array is not None else None
        if request is not None:
            return Leftover(
                entry, "decoded", "the decoded form of an erased picture, by its pixels", (request,)
            )
        return None

    def _image_copy(self, entry: Entry) -> Leftover | None:
        """Return an image file as a leftover if it has the bytes or the pixels of an erased image."""
        from expunge.tasks.images import decode

        content = _content(entry)
        digest = hashlib.sha256(content).hexdigest()
        if not content or self.retained(digest):
            return None
        request = self._request("image", "", digest)
        if request is not None:
            return Leftover(entry, "picture", "byte for byte an erased picture", (request,))
        try:
            request = self._request_by_pixels([decode(content, "the file")])
        except InputError:
            return None
        if request is not None:
            return Leftover(entry, "picture", "pixel for pixel an erased picture", (request,))
        return None

    def _request_by_name(self, path: str) -> str | None:
        """Return the request that erased an image with this path, apart from the suffix."""
        file = PurePosixPath(path)
        for name, root in self.roots:
            if file.is_relative_to(root):
                stem = str(file.relative_to(root).with_suffix(""))
                for suffix in SUFFIXES:
                    if request := self._request("sample", name, f"{stem}.{suffix}"):
                        return request
        return None

    def _request_by_pixels(self, images: Iterable[NDArray[np.uint8]]) -> str | None:
        """Return the request that erased an image with the pixels of one of the arrays."""
        for image in images:
            if request := self._request("decoded", "", pixel_digest(image)):
                return request
        return None

    def _request(self, kind: str, dataset: str, value: str) -> str | None:
        """Return the request that put a value on the suppression list."""
        return self.macs.get(suppression_mac(self.key, kind, dataset, value))


def _content(entry: Entry) -> bytes:
    """Return a file's bytes; empty if it cannot be read or has changed."""
    try:
        with open_entry(entry) as handle:
            return b"".join(_chunks(handle, entry.size_bytes))
    except (OSError, FileChanged):
        return b""


def _chunks(handle: int, size_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of an open file, up to the given size."""
    remaining = size_bytes
    while remaining > 0 and (chunk := os.read(handle, remaining)):
        remaining -= len(chunk)
        yield chunk


def _array(content: bytes) -> Any:
    """Return the array of a NumPy file; None if it is damaged or contains objects."""
    import numpy as np

    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError):
        return None
