# SPDX-License-Identifier: Apache-2.0
"""The classification material: scikit-learn's digits (1,797 pictures), given to invented contributors."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from expunge.data.scan import scan
from expunge.data.types import Scan

CONTRIBUTORS = 60
PUBLIC = {"few": 6, "middle": 18}
SIZE = 32
TEST_SHARE, VAL_SHARE = 0.32, 0.1


def prepare(root: Path, share: str, without: tuple[str, ...] = ()) -> Scan:
    """Write the folders of classes below ``root`` unless they are there, and return what is in them."""
    if not (root / "train").is_dir():
        _write(root, without)
    found = scan(root)
    samples = []
    for sample in found.samples:
        if sample.split == "train":
            person = sample.path.rpartition("/")[2].partition("_")[0]
            sample = replace(sample, subjects=(person,), public=int(person[1:]) < PUBLIC[share])
        samples.append(sample)
    return replace(found, samples=tuple(samples))


def _write(root: Path, without: tuple[str, ...]) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        draw = _unit(f"split {i}")
        split = "test" if draw < TEST_SHARE else "val" if draw < TEST_SHARE + VAL_SHARE else "train"
        person = f"c{int(_unit(f'contributor {i}') * CONTRIBUTORS):02d}"
        if split == "train" and person in without:
            continue
        picture = Image.fromarray((pixels * (255 / 16)).astype("uint8")).resize(
            (SIZE, SIZE), Image.Resampling.BICUBIC
        )
        target = root / split / str(label) / f"{person}_{i:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.convert("RGB").save(target)


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
