# SPDX-License-Identifier: Apache-2.0
"""A 64-bit perceptual hash of a picture, and of its mirror image.

As in Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1 (DCT
based hash): the picture in grey at 32×32, its DCT-II, and of the 64 lowest frequencies one bit each: above
their median or not. Difference: the frequencies are taken in the order of u + v and the constant is left out
(Zauner takes the square from (1, 1) to (8, 8)), so that pure rows and columns count, too. Mirroring a picture
flips the sign of every odd horizontal frequency: the mirror's hash costs no second picture.
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
DRAFT_SIDE = 256  # JPEG files are decoded at the smallest scale that is no smaller
FLAT = 2.0  # grey levels of standard deviation below which a picture shows nothing to compare
_ORDER = sorted(((u, v) for u in range(SIDE) for v in range(SIDE) if u + v), key=lambda f: (sum(f), f))[:BITS]
_ROWS = np.array([u for u, _ in _ORDER])
_COLUMNS = np.array([v for _, v in _ORDER])
_MIRROR = np.where(_COLUMNS % 2 == 1, -1.0, 1.0)


class NotAPicture(Exception):
    """The bytes cannot be decoded."""


@dataclass(frozen=True)
class Hashed:
    """The hash of a picture and of its mirror image; ``flat``: it shows too little to compare."""

    value: int
    mirrored: int
    flat: bool


def grey(data: bytes, side: int) -> NDArray[np.float64]:
    """Return a picture in grey, upright, squeezed to (side, side), 0–255.

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
        raise NotAPicture from error


def hash_picture(data: bytes) -> Hashed:
    """Return the hashes of an encoded picture.

    Raises:
        NotAPicture: If it cannot be decoded.
    """
    return hash_grey(grey(data, SIDE))


def hash_grey(pixels: NDArray[np.float64]) -> Hashed:
    """Return the hashes of a picture (32, 32) in grey."""
    chosen = dctn(pixels, type=2, norm="ortho")[_ROWS, _COLUMNS]
    return Hashed(_bits(chosen), _bits(chosen * _MIRROR), bool(pixels.std() < FLAT))


def similarity(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the correlation of two pictures in grey of one size, −1 to 1; 0 if one of them is flat."""
    a, b = one - one.mean(), two - two.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if min(one.std(), two.std()) >= FLAT else 0.0


def _bits(values: NDArray[np.float64]) -> int:
    bits = values > np.median(values)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
