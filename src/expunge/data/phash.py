# SPDX-License-Identifier: Apache-2.0
"""64-bit perceptual hashes of an image and of its mirror image.

As in Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1 (DCT
based hash): the image is reduced to greyscale 32×32 and transformed by a DCT-II. Each of the 64 lowest
frequencies gives one bit: whether it is above their median. Difference: frequencies are chosen in the order
of u + v without the constant (Zauner takes the square from (1, 1) to (8, 8)), so that pure rows and columns
count too. Mirroring an image flips the sign of every odd horizontal frequency, so the mirror's hash needs no
second transform.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.fft import dctn

SIDE = 32
BITS = 64
DRAFT_SIDE = 256  # JPEG files are decoded at the smallest scale of at least this size, in pixels
FLAT = 2.0  # images with a smaller standard deviation (in grey levels) are not compared
_ORDER = sorted(((u, v) for u in range(SIDE) for v in range(SIDE) if u + v), key=lambda f: (sum(f), f))[:BITS]
_ROWS = np.array([u for u, _ in _ORDER])
_COLUMNS = np.array([v for _, v in _ORDER])
_MIRROR = np.where(_COLUMNS % 2 == 1, -1.0, 1.0)


class NotAnImage(Exception):
    """The bytes cannot be decoded."""


@dataclass(frozen=True)
class ImageHash:
    """The hashes of an image and of its mirror image. ``flat``: it has too little contrast to compare."""

    value: int
    mirrored: int
    flat: bool


def grey(data: bytes, side: int) -> NDArray[np.float64]:
    """Return an image in greyscale, upright, resized to (side, side), values 0–255.

    Args:
        data: Encoded image.
        side: Height and width of the result, in pixels.

    Raises:
        NotAPicture: If it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft("L", (max(side, DRAFT_SIDE), max(side, DRAFT_SIDE)))
            upright = ImageOps.exif_transpose(picture) or picture
            small = upright.convert("L").resize((side, side), Image.Resampling.BOX, reducing_gap=None)
            return np.asarray(small, dtype=np.float64)
    except Exception as error:  # Pillow raises whatever its decoders raise
        raise NotAnImage from error


def hash_picture(data: bytes) -> ImageHash:
    """Return the hashes of an encoded image.

    Raises:
        NotAPicture: If it cannot be decoded.
    """
    return hash_grey(grey(data, SIDE))


def hash_grey(pixels: NDArray[np.float64]) -> ImageHash:
    """Return the hashes of a greyscale image (32, 32)."""
    chosen = dctn(pixels, type=2, norm="ortho")[_ROWS, _COLUMNS]
    return ImageHash(_bits(chosen), _bits(chosen * _MIRROR), bool(pixels.std() < FLAT))


def similarity(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the correlation of two greyscale images of equal shape, −1 to 1; 0 if one of them is flat."""
    a, b = one - one.mean(), two - two.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if min(one.std(), two.std()) >= FLAT else 0.0


def _bits(values: NDArray[np.float64]) -> int:
    bits = values > np.median(values)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
