# SPDX-License-Identifier: AGPL-3.0-or-later
"""Reading images: once per file, checked against the manifest, never written to."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from expunge.data.types import Sample
from expunge.errors import InputError
from expunge.user_files import read_bytes

CACHE_BYTES = 2 << 30


def read_checked(path: Path, digest: str, name: str) -> bytes:
    """Return a file's bytes if they are those of the manifest.

    Raises:
        InputError: If the file is gone or has changed since it was added.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read.",
            f"The system said: {error.strerror}.",
            "Restore the file, or add the data again.",
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(
            f"{name} has changed since it was added to the dataset.",
            "Its SHA-256 differs from the manifest's.",
            "Restore the file, or add the data again to make a new version.",
        )
    return data


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image as Ultralytics would: BGR, (H, W, 3), EXIF orientation applied.

    Raises:
        InputError: If the bytes are no image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                rgb = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        except Exception as error:
            raise InputError(
                f"{name} is not a readable image.", "It could not be decoded.", "Repair or remove it."
            ) from error
        image = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return image  # type: ignore[return-value]


class ImageStore:
    """Decoded images of a list of samples, with a bounded cache (results do not depend on it)."""

    def __init__(self, root: Path, samples: list[Sample], limit_bytes: int = CACHE_BYTES) -> None:
        self._root, self._samples, self._limit = root, samples, limit_bytes
        self._cache: OrderedDict[tuple[int, int], tuple[NDArray[np.uint8], tuple[int, int]]] = OrderedDict()
        self._held = 0

    def load(self, index: int, longest: int = 0) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return image ``index`` (a copy) and its original (height, width).

        Args:
            index: Position in the list of samples.
            longest: Resize so that the longer side has this many pixels; 0: leave as it is.
        """
        key = (index, longest)
        if key not in self._cache:
            sample = self._samples[index]
            image = decode(
                read_checked(self._root / sample.path, sample.image_digest, sample.path), sample.path
            )
            shape = (image.shape[0], image.shape[1])
            if longest:
                image = _fit(image, longest)
            self._cache[key] = (image, shape)
            self._held += image.nbytes
            while self._held > self._limit and len(self._cache) > 1:
                self._held -= self._cache.popitem(last=False)[1][0].nbytes
        image, shape = self._cache[key]
        return image.copy(), shape


def _fit(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    ratio = longest / max(height, width)
    if ratio == 1:
        return image
    size = (min(int(np.ceil(width * ratio)), longest), min(int(np.ceil(height * ratio)), longest))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
