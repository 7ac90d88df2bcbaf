# SPDX-License-Identifier: AGPL-3.0-or-later
"""Image reading: each file is read once, checked against the manifest, and never written."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from expunge.data.decoding import BadImage, decode_image
from expunge.data.types import Sample
from expunge.errors import InputError
from expunge.storage.user_files import read_bytes

CACHE_BYTES = 2 << 30


def read_checked(path: Path, digest: str, name: str) -> bytes:
    """Return the content of a file whose digest matches the manifest.

    Raises:
        InputError: If the file is missing or has changed since it was added.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read.",
            f"The system reported: {error.strerror}.",
            "Restore the file, or add the data again.",
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(
            f"{name} has changed since it was added to the dataset.",
            "Its SHA-256 differs from the manifest's.",
            "Restore the file, or add the data again to make a new version.",
        )
    return data


def decode(data: bytes, name: str, kind: str = "yolo") -> NDArray[np.uint8]:
    """Return an image decoded as in Ultralytics: BGR, (H, W, 3), with EXIF orientation applied.

    Args:
        data: The file's content.
        name: The file's path; its suffix selects the decoder.
        kind: ``yolo`` or ``folders``, see :class:`expunge.data.types.DatasetConfig`.

    Raises:
        InputError: If the content is not an image.
    """
    try:
        return decode_image(data, name, kind)
    except BadImage as error:
        raise InputError(f"{name} is not a readable image.", str(error), "Repair or remove it.") from error


class ImageStore:
    """Decoded images of a list of samples, with a cache of bounded size that does not affect results."""

    def __init__(
        self, root: Path, samples: list[Sample], limit_bytes: int = CACHE_BYTES, kind: str = "yolo"
    ) -> None:
        self._root, self._samples, self._limit, self._kind = root, samples, limit_bytes, kind
        self._cache: OrderedDict[tuple[int, int], tuple[NDArray[np.uint8], tuple[int, int]]] = OrderedDict()
        self._cached_bytes = 0

    def load(self, index: int, longest: int = 0) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return a copy of image ``index`` and its original (height, width).

        Args:
            index: Position in the list of samples.
            longest: Resize the longer side to this many pixels; 0: keep the size.
        """
        key = (index, longest)
        if key not in self._cache:
            sample = self._samples[index]
            content = read_checked(self._root / sample.path, sample.image_digest, sample.path)
            image = decode(content, sample.path, self._kind)
            shape = (image.shape[0], image.shape[1])
            if longest:
                image = _resize(image, longest)
            self._cache[key] = (image, shape)
            self._cached_bytes += image.nbytes
            while self._cached_bytes > self._limit and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1][0].nbytes
        image, shape = self._cache[key]
        return image.copy(), shape


def _resize(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    ratio = longest / max(height, width)
    if ratio == 1:
        return image
    size = (min(int(np.ceil(width * ratio)), longest), min(int(np.ceil(height * ratio)), longest))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
