# SPDX-License-Identifier: Apache-2.0
"""Digests of decoded images, by which copies are recognised in any file format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pixel_digest(picture: NDArray[np.uint8]) -> str:
    """Return the SHA-256 (hex) of the shape and pixels of a decoded image.

    Args:
        picture: (H, W, 3) uint8, BGR, as decoded by Ultralytics.
    """
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def image_layouts(array: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the images (H, W, 3) that an array may stand for: BGR or RGB, channels last or first.

    Args:
        array: Content of a ``.npy`` file: (H, W, 3), (3, H, W), (H, W) or (H, W, 1) of uint8. Other arrays
            yield nothing.
    """
    if array.dtype != np.uint8:
        return
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        return
    if array.shape[2] == 1:
        yield np.repeat(array, 3, axis=2)
    for last in (array, np.moveaxis(array, 0, 2)):
        if last.shape[2] == 3:
            yield last
            yield last[..., ::-1]
