# SPDX-License-Identifier: Apache-2.0
"""Digests of decoded pictures, by which a copy is known whatever file format it has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pixel_digest(picture: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a decoded picture, hex.

    Args:
        picture: (H, W, 3), BGR as Ultralytics decodes it.
    """
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def readings(array: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that an array may hold: BGR or RGB, channels last or first.

    Args:
        array: What a ``.npy`` file holds: (H, W, 3), (3, H, W), (H, W) or (H, W, 1) of uint8.
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
