# SPDX-License-Identifier: Apache-2.0
"""Perceptual hashes: near for similar images, far for different ones, and correct for mirrored images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dct

from expunge.data.phash import NotAnImage, grey, hash_grey, hash_picture, similarity


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return a smooth random image."""
    small = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def bits(one: int, two: int) -> int:
    return (one ^ two).bit_count()


CHANGES = {
    "recompressed": lambda p: encoded(p, "JPEG", quality=40),
    "half as large": lambda p: encoded(p.resize((160, 120))),
    "larger": lambda p: encoded(p.resize((1000, 750)), "JPEG"),
    "brighter": lambda p: encoded(ImageEnhance.Brightness(p).enhance(1.1), "JPEG"),
    "grey": lambda p: encoded(p.convert("L")),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_similar_images_are_near(change: str) -> None:
    distances = [
        bits(hash_picture(encoded(scene(k))).value, hash_picture(CHANGES[change](scene(k))).value)
        for k in range(12)
    ]
    assert max(distances) <= 3, distances


def test_different_images_are_far() -> None:
    hashes = [hash_picture(encoded(scene(k))).value for k in range(30)]
    assert min(bits(a, b) for i, a in enumerate(hashes) for b in hashes[i + 1 :]) > 7


def test_a_mirrored_picture_has_the_mirrored_hash() -> None:
    for k in range(10):
        flipped = scene(k).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert bits(hash_picture(encoded(scene(k))).mirrored, hash_picture(encoded(flipped)).value) <= 1
        assert bits(hash_picture(encoded(scene(k))).value, hash_picture(encoded(flipped)).value) > 7


def test_the_hash_is_that_of_a_plain_transform() -> None:
    """Compare with an explicit DCT-II along both axes and the 64 lowest frequencies by u + v, then u."""
    pixels = grey(encoded(scene(3)), 32)
    transformed = dct(dct(pixels, axis=0, norm="ortho"), axis=1, norm="ortho")
    order = sorted(
        ((u, v) for u in range(32) for v in range(32) if (u, v) != (0, 0)), key=lambda f: (f[0] + f[1], f[0])
    )
    values = [transformed[f] for f in order[:64]]
    middle = float(np.median(values))
    assert hash_grey(pixels).value == int("".join(str(int(v > middle)) for v in values), 2)


def test_exif_orientation_and_flat_images() -> None:
    turned = scene(5).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer must rotate it clockwise
    assert (
        bits(hash_picture(encoded(turned, "JPEG", exif=exif)).value, hash_picture(encoded(scene(5))).value)
        <= 3
    )
    assert hash_picture(encoded(Image.new("RGB", (50, 50), "red"))).flat
    assert not hash_picture(encoded(scene(5))).flat


def test_similarity() -> None:
    one, two = grey(encoded(scene(1)), 64), grey(encoded(scene(2)), 64)
    assert similarity(one, one * 0.5 + 20) == pytest.approx(1.0)
    assert similarity(one, 255 - one) == pytest.approx(-1.0)
    assert abs(similarity(one, two)) < 0.6
    assert similarity(one, np.full_like(one, 7.0)) == 0.0
    assert similarity(one, two) == pytest.approx(np.corrcoef(one.ravel(), two.ravel())[0, 1])


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"\0" * 50])
def test_undecodable_bytes(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        hash_picture(data)
