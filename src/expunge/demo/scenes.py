# SPDX-License-Identifier: Apache-2.0
"""Synthetic scenes made from portraits, with exact boxes and known identities.

Faces are pasted at known positions into crops of two photographs that Ultralytics ships. A scene depends only
on its name, so a dataset made without a person has the same bytes for everybody else.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expunge.demo.faces import PICTURES
from expunge.errors import InputError

SIZE = 160
"""Width and height of a scene, in pixels."""
HEIGHTS = (28, 70)
"""Minimum and maximum height of a pasted face, in pixels."""

# Areas of the photographs without faces: (left, top, right, bottom), in pixels.
_FREE = {
    "bus.jpg": ((0, 0, 810, 390), (316, 330, 780, 780), (0, 484, 810, 1080)),
    "zidane.jpg": ((0, 0, 468, 720), (684, 0, 882, 720), (1082, 0, 1280, 720), (684, 304, 1280, 720)),
}

Box = tuple[float, float, float, float]
"""xyxy, in pixels."""


class Portraits(Protocol):
    """A source of portraits."""

    def read(self, person: str, number: int) -> Image.Image:
        """Return one grey picture of a person."""
        ...


@dataclass(frozen=True, slots=True)
class Cast:
    """The people of the demo by split.

    Attributes:
        public: People in training of whom no erasure is expected.
        private: People in training who may withdraw.
        val, test: People who are not in training.
        pairs: Pairs of private people who share group photos.
        scenes: Number of scenes of each person in training, without group photos.
        unseen_scenes: Number of scenes of each person in ``val`` and ``test``.
        group_scenes: Number of group photos of each pair.
    """

    public: tuple[str, ...]
    private: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    scenes: int = 12
    unseen_scenes: int = 12
    group_scenes: int = 2

    def without(self, person: str) -> Cast:
        """Return the cast without ``person``."""

        def others(people: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(p for p in people if p != person)

        return replace(
            self,
            public=others(self.public),
            private=others(self.private),
            val=others(self.val),
            test=others(self.test),
            pairs=tuple(pair for pair in self.pairs if person not in pair),
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture: its path below ``images/``, the people in it, and the box of each face."""

    path: str
    people: tuple[str, ...]
    boxes: tuple[Box, ...]

    @property
    def sample(self) -> str:
        """The path relative to the dataset's root."""
        return f"images/{self.path}"


def build(root: Path, portraits: Portraits, cast: Cast) -> list[Scene]:
    """Write an Ultralytics data set, ``subjects.csv`` and ``public.txt`` into ``root``; return its scenes."""
    photographs = backgrounds()
    scenes = []
    for path, people in _names(cast):
        image, boxes = draw(path, people, portraits, photographs)
        scene = Scene(path, people, boxes)
        target = root / scene.sample
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
        label = (root / "labels" / path).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("".join(_label(box) for box in boxes), encoding="utf-8")
        scenes.append(scene)
    _write_tables(root, scenes, set(cast.public))
    return scenes


def draw(
    name: str, people: tuple[str, ...], portraits: Portraits, photographs: dict[str, Image.Image]
) -> tuple[Image.Image, tuple[Box, ...]]:
    """Return the scene called ``name`` and its boxes: one or two faces in a crop of a photograph."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    canvas = np.asarray(_crop(rng, photographs), dtype=np.float64).copy()
    sides = [(0, SIZE)] if len(people) == 1 else [(0, SIZE // 2), (SIZE // 2, SIZE)]
    if rng.random() < 0.5:
        sides.reverse()
    boxes = []
    for person, (left, right) in zip(people, sides, strict=True):
        height = int(rng.integers(HEIGHTS[0], HEIGHTS[1] + 1))
        width = round(height * 92 / 112)
        x = int(rng.integers(left, right - width + 1))
        y = int(rng.integers(0, SIZE - height + 1))
        face = portraits.read(person, int(rng.integers(1, PICTURES + 1)))
        face = face.resize((width, height), Image.Resampling.LANCZOS)
        _paste(canvas, face, x, y, light=float(rng.uniform(0.85, 1.1)))
        boxes.append((float(x), float(y), float(x + width), float(y + height)))
    return Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8)), tuple(boxes)


def backgrounds() -> dict[str, Image.Image]:
    """Return the photographs that scenes are cropped from, by name; Ultralytics is not imported."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise InputError("The demo needs the photographs of the package ultralytics.", "It is not installed.")
    folder = Path(spec.origin).parent / "assets"
    photographs = {}
    for name in _FREE:
        try:
            with Image.open(folder / name) as image:
                photographs[name] = image.convert("RGB")
        except Exception as error:  # Pillow's decoders raise many types
            raise InputError(f"The photograph {name} of ultralytics cannot be read.", str(error)) from error
    return photographs


def _names(cast: Cast) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the path and the people of every scene."""
    parts = (
        ("train", cast.public + cast.private, cast.scenes),
        ("val", cast.val, cast.unseen_scenes),
        ("test", cast.test, cast.unseen_scenes),
    )
    for split, people, scenes in parts:
        for person in people:
            for k in range(scenes):
                yield f"{split}/{person}_{k:02d}.png", (person,)
    for first, second in cast.pairs:
        for k in range(cast.group_scenes):
            yield f"train/{first}_{second}_{k:02d}.png", (first, second)


def _crop(rng: np.random.Generator, photographs: dict[str, Image.Image]) -> Image.Image:
    """Return a random square crop without faces of one of the photographs, resized to ``SIZE`` pixels."""
    areas = [(name, area) for name, free in _FREE.items() for area in free]
    name, (left, top, right, bottom) = areas[int(rng.integers(len(areas)))]
    side = int(rng.integers(SIZE, min(right - left, bottom - top) + 1))
    x = int(rng.integers(left, right - side + 1))
    y = int(rng.integers(top, bottom - side + 1))
    return photographs[name].resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side))


def _paste(canvas: NDArray[np.float64], face: Image.Image, x: int, y: int, light: float) -> None:
    """Blend a grey face into ``canvas`` (H, W, 3) with a soft ellipse and a slight warm tint."""
    grey = np.asarray(face, dtype=np.float64)
    height, width = grey.shape
    rows = (np.arange(height) + 0.5) / height * 2 - 1
    columns = (np.arange(width) + 0.5) / width * 2 - 1
    radius = np.hypot(rows[:, None], columns[None, :])
    alpha = np.clip((1.0 - radius) / 0.14, 0.0, 1.0)[..., None]
    tinted = (grey * light)[..., None] * np.array([1.08, 0.98, 0.88])
    part = canvas[y : y + height, x : x + width]
    part[:] = alpha * tinted + (1 - alpha) * part


def _label(box: Box) -> str:
    """Return the line of a label file: class 0, then centre and size as fractions of the scene."""
    left, top, right, bottom = (v / SIZE for v in box)
    return f"0 {(left + right) / 2:.6f} {(top + bottom) / 2:.6f} {right - left:.6f} {bottom - top:.6f}\n"


def write_config(root: Path) -> Path:
    """Write and return the ``data.yaml`` of the scenes in ``root``."""
    path = root / "data.yaml"
    path.write_text(
        f"path: {root.resolve()}\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [face]\n",
        encoding="utf-8",
    )
    return path


def _write_tables(root: Path, scenes: list[Scene], public: Collection[str]) -> None:
    """Write ``data.yaml``, ``subjects.csv`` and ``public.txt``."""
    write_config(root)
    with open(root / "subjects.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("sample", "subject"))
        writer.writerows((scene.sample, person) for scene in scenes for person in scene.people)
    lines = [scene.sample for scene in scenes if all(person in public for person in scene.people)]
    (root / "public.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
