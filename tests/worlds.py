# SPDX-License-Identifier: Apache-2.0
"""Small data sets with data subjects, drawn so that every file depends on its own name alone."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

SIDE = 48
NAMES = ("box", "disc", "rare")


@dataclass
class World:
    """A data set on disk, and who is in which sample.

    Attributes:
        root: Its folder.
        source: What ``data add`` is given.
        subjects: For each training sample its subjects.
        public: Training samples of which no erasure is expected.
    """

    root: Path
    source: Path
    subjects: dict[str, tuple[str, ...]]
    public: list[str] = field(default_factory=list)

    def tables(self) -> tuple[Path, Path]:
        """Write and return subjects.csv and the list of public samples."""
        table, listed = self.root / "subjects.csv", self.root / "public.txt"
        with open(table, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("sample", "subject"))
            writer.writerows((path, s) for path, people in sorted(self.subjects.items()) for s in people)
        listed.write_text("".join(f"{p}\n" for p in self.public))
        return table, listed


def pixels(name: str) -> np.ndarray:
    """A textured picture that depends on its name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 180, (SIDE, SIDE, 3), dtype=np.uint8)
    x, y, w, h = (int(v) for v in rng.integers(4, 20, 4))
    image[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    return image


def detection(
    root: Path, people: int = 6, each: int = 3, *, without: Iterable[str] = (), public: int = 4
) -> World:
    """Draw a detection set: people, group photos, nobody's pictures, a copy, odd labels.

    ``rare`` is a class with a single sample (p0's); p1 has a box-only label among polygons; one sample of
    p2 exists twice under two paths; the group photos show p3 with p4, and p0 with p5.
    """
    gone = set(without)
    subjects: dict[str, tuple[str, ...]] = {}
    for i in range(people):
        for k in range(each):
            subjects[f"images/train/p{i}/shot {k}.png"] = (f"p{i}",)
    subjects["images/train/group é 1.png"] = ("p3", "p4")
    subjects["images/train/group é 2.png"] = ("p0", "p5")
    subjects["images/train/copy/of p2.png"] = ("p2",)
    bare = [f"images/train/empty/{k}.png" for k in range(3)]
    open_data = [f"images/train/public/{k}.png" for k in range(public)]
    for path in [*subjects, *bare, *open_data, *(f"images/val/{k}.png" for k in range(4))]:
        if not gone & set(subjects.get(path, ())):
            _draw(root, path)
    source = root / "data.yaml"
    source.write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": list(NAMES)}), encoding="utf-8"
    )
    kept = {path: who for path, who in subjects.items() if not gone & set(who)}
    return World(root, source, kept, open_data)


def _draw(root: Path, path: str) -> None:
    image = root / path
    label = root / path.replace("images/", "labels/", 1).replace(".png", ".txt")
    image.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    shown = "images/train/p2/shot 0.png" if path.endswith("of p2.png") else path
    Image.fromarray(pixels(shown)).save(image)
    if "/empty/" in path:
        return
    number = 2 if path == "images/train/p0/shot 0.png" else sum(path.encode()) % 2
    if path.endswith("p1/shot 1.png"):
        label.write_text(f"{number} 0.4 0.4 0.3 0.3\n")
    else:
        label.write_text(f"{number} 0.2 0.2 0.6 0.25 0.5 0.7\n")


def classification(
    root: Path, people: int = 6, each: int = 3, *, without: Iterable[str] = (), public: int = 4
) -> World:
    """Draw a classification set; ``rare`` has a single training sample, p0's."""
    gone = set(without)
    subjects: dict[str, tuple[str, ...]] = {}
    for i in range(people):
        for k in range(each):
            label = "rare" if (i, k) == (0, 0) else ("box", "disc")[(i + k) % 2]
            subjects[f"train/{label}/p{i}-{k}.png"] = (f"p{i}",)
    subjects["train/box/group.png"] = ("p3", "p4")
    bare = [f"train/disc/nobody-{k}.png" for k in range(2)]
    open_data = [f"train/{('box', 'disc')[k % 2]}/public-{k}.png" for k in range(public)]
    for path in [*subjects, *bare, *open_data, *(f"val/{n}/{k}.png" for n in NAMES for k in range(2))]:
        if not gone & set(subjects.get(path, ())):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(path)).save(file)
    kept = {path: who for path, who in subjects.items() if not gone & set(who)}
    return World(root, root, kept, open_data)


def tiny_architecture(folder: Path, task: str) -> Path:
    """Write a YOLO26 a sixteenth as wide, in which a training step takes milliseconds."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    name = "yolo26.yaml" if task == "detect" else "yolo26-cls.yaml"
    content = yaml.safe_load((Path(spec.origin).parent / "cfg" / "models" / "26" / name).read_text())
    content["scales"] = {"n": [0.33, 0.0625, 128]}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny26n{'' if task == 'detect' else '-cls'}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
