# SPDX-License-Identifier: Apache-2.0
"""Experiment ``box_labels``: boxes left out, moved, swapped and invented; who finds them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.bias.boxes import ARCHITECTURE, PLAIN
from benchmarks.bias.report import Row
from expunge.bias.folds import out_of_fold
from expunge.data.scan import scan
from expunge.data.types import Sample, Scan
from expunge.tasks.box_labels import KINDS, combine_kinds, label_doubt
from expunge.tasks.boxes import PictureBoxes
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.predictions import detections
from expunge.tasks.weights import build_module, open_source
from expunge.tasks.yolo import samples_of, yolo_task

SEEDS = 5
BASE = "held out"
PICTURES, EACH, SIDE, EPOCHS, FOLDS, WRONG = 120, 2, 64, 40, 3, 0.2
FIGURES = ("precision", "AUROC", *(f"AUROC {kind}" for kind in KINDS))
NAMES = ("disc", "square", "cross")
RECORD: dict[str, Any] = {**PLAIN, "imgsz": SIDE, "batch": 16, "epochs": EPOCHS}
ABOUT = (
    f"{PICTURES} drawn pictures of {SIDE} px with one to three discs, squares and crosses on noise, {EACH} "
    f"of a person. In {WRONG:.0%} of them one box is wrong: left out, moved by half of its size, of another "
    "class, or invented, a quarter each. Precision: of the first N named, N being how many are wrong. AUROC: "
    "wrong pictures against right ones, 0.5 is chance; by kind: the own score of that kind, on pictures with "
    f"such an error. *held out*: `bias find --folds {FOLDS}`: each picture is judged by a detector (five "
    f"convolutions below YOLO26's heads, {EPOCHS} epochs) that saw nobody's pictures of that fold. *not held "
    "out*: by one that learnt all labels, as an adopted model has. *cleanlab*: ObjectLab's scores by that "
    "library for the same detections. How the scores are combined was chosen on simulated detections."
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Pictures on disk, and what is wrong with the labels of each: a kind, or nothing."""

    found: Scan
    wrong: tuple[str, ...]

    @property
    def rows(self) -> list[Sample]:
        """The training samples, by path."""
        return sorted((s for s in self.found.samples if s.split == "train"), key=lambda s: s.path)


def build(root: Path, seed: int, pictures: int = PICTURES) -> World:
    """Draw the pictures, and spoil some labels."""
    rng = np.random.default_rng(seed)
    kinds = [""] * pictures
    for k, place in enumerate(rng.choice(pictures, round(WRONG * pictures), replace=False)):
        kinds[int(place)] = KINDS[k % len(KINDS)]
    for i, kind in enumerate([*kinds, ""]):  # the last is for a split that nobody looks at
        split = "train" if i < pictures else "val"
        image, boxes = _scene(rng)
        boxes = _spoilt(boxes, kind, rng)
        for folder, suffix in (("images", ".png"), ("labels", ".txt")):
            target = root / folder / split / f"p{i // EACH:03d}-{i:04d}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if folder == "images":
                image.save(target)
            else:
                target.write_text("".join(_row(*box) for box in boxes), encoding="utf-8")
    source = root / "data.yaml"
    source.write_text(
        f"train: images/train\nval: images/val\nnames: [{', '.join(NAMES)}]\n", encoding="utf-8"
    )
    return World(scan(source), tuple(kinds))


def _scene(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, Floats]]]:
    image = Image.fromarray(rng.integers(60, 150, (SIDE, SIDE, 3), dtype=np.uint8))
    pen, boxes = ImageDraw.Draw(image), list[tuple[int, Floats]]()
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.integers(14, 25))
        box = _place(rng, size, [b for _, b in boxes])
        if box is None:
            continue
        kind, colour = int(rng.integers(len(NAMES))), tuple(int(v) for v in rng.integers(170, 256, 3))
        x1, y1, x2, y2 = (int(v) for v in box)
        if kind == 0:
            pen.ellipse((x1, y1, x2 - 1, y2 - 1), fill=colour)
        elif kind == 1:
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
        else:
            pen.line((x1, y1, x2 - 1, y2 - 1), fill=colour, width=4)
            pen.line((x1, y2 - 1, x2 - 1, y1), fill=colour, width=4)
        boxes.append((kind, box))
    return image, boxes


def _place(rng: np.random.Generator, size: int, others: Sequence[Floats]) -> Floats | None:
    """A square that touches none of the others, or nothing where 50 tries find none."""
    for _ in range(50):
        x, y = rng.integers(0, SIDE - size, 2)
        box = np.array([x, y, x + size, y + size], dtype=np.float64)
        if all(box[2] <= o[0] or o[2] <= box[0] or box[3] <= o[1] or o[3] <= box[1] for o in others):
            return box
    return None


def _spoilt(boxes: list[tuple[int, Floats]], kind: str, rng: np.random.Generator) -> list[tuple[int, Floats]]:
    """The labels with one error of a kind; as they are, where it is none."""
    place = int(rng.integers(len(boxes)))
    name, box = boxes[place]
    rest = boxes[:place] + boxes[place + 1 :]
    if kind == "overlooked":
        return rest
    if kind == "misplaced":
        width = box[2] - box[0]
        moved = box + np.tile(rng.choice([-0.5, 0.5], 2) * width, 2)
        return [*rest, (name, moved.clip(0, SIDE))]
    if kind == "swapped":
        return [*rest, ((name + int(rng.integers(1, len(NAMES)))) % len(NAMES), box)]
    if kind == "spurious":
        extra = _place(rng, int(rng.integers(14, 25)), [b for _, b in boxes])
        while extra is None:
            extra = _place(rng, 10, [b for _, b in boxes])
        return [*boxes, (int(rng.integers(len(NAMES))), extra)]
    return boxes


def _row(name: int, box: Floats) -> str:
    x1, y1, x2, y2 = (float(v) / SIDE for v in box)
    return f"{name} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n"


def run(seed: int, *, quick: bool = False, device: str = "cpu") -> Iterator[Row]:
    """Yield a function for each ranking that measures how well it finds images with wrong labels."""
    epochs, pictures = (2, 36) if quick else (EPOCHS, PICTURES)
    with tempfile.TemporaryDirectory() as folder:
        made = build(Path(folder) / "shapes", seed, pictures)
        opened = untrained(Path(folder))
        task = yolo_task(opened, device)
        data = samples_of(opened, made.found.root, made.found.config, made.rows)
        people = [row.path.rpartition("/")[2].partition("-")[0] for row in made.rows]

        def say(model: Any, rows: Sequence[Sample]) -> list[PictureBoxes]:
            judge = LoadedModel(model, "detect", NAMES, SIDE, RECORD)
            return detections([judge], made.found.root, made.found.config, rows, device)

        @cache
        def held_out() -> list[PictureBoxes]:
            by_row: dict[int, PictureBoxes] = {}
            for model, rows in out_of_fold(
                task, opened.module, data, people, folds=FOLDS, epochs=epochs, seed=seed
            ):
                by_row |= dict(zip(rows.tolist(), say(model, [made.rows[i] for i in rows]), strict=True))
            return [by_row[i] for i in range(len(made.rows))]

        @cache
        def learnt() -> list[PictureBoxes]:
            generator = torch.Generator().manual_seed(seed)
            model = task.retrain(
                opened.module, data, epochs=epochs, generator=generator, images=lambda count: None
            )
            return say(model, made.rows)

        def ours(ask: Any) -> dict[str, float]:
            by_kind = label_doubt(ask())
            return scores(combine_kinds(by_kind), made.wrong, dict(zip(KINDS, by_kind.T, strict=True)))

        yield BASE, partial(ours, held_out)
        yield "not held out", partial(ours, learnt)
        yield "cleanlab", lambda: scores(cleanlab(held_out()), made.wrong)
        yield "cleanlab, not held out", lambda: scores(cleanlab(learnt()), made.wrong)
        yield "chance", lambda: scores(np.random.default_rng([seed, 9]).random(len(made.rows)), made.wrong)


def untrained(folder: Path) -> LoadedModel:
    """Return the detector of the experiment, with random weights."""
    file = folder / "small.yaml"
    file.write_text(ARCHITECTURE, encoding="utf-8")
    torch.manual_seed(0)
    module = build_module("detect", {**open_source(str(file)).architecture, "nc": len(NAMES)}, NAMES)
    return LoadedModel(module, "detect", NAMES, SIDE, RECORD)


def cleanlab(pictures: Sequence[PictureBoxes]) -> Floats:
    """Return 1 − the label quality scores of cleanlab's ObjectLab (n,)."""
    from cleanlab.object_detection.rank import get_label_quality_scores

    labels = [{"bboxes": p.boxes, "labels": p.classes} for p in pictures]
    predictions = [
        np.array(
            [
                np.concatenate([p.found[p.said == k], p.scores[p.said == k, None]], axis=1)
                for k in range(len(NAMES))
            ]
            + [None],
            dtype=object,
        )[:-1]
        for p in pictures
    ]
    return 1 - np.asarray(get_label_quality_scores(labels, predictions, verbose=False))


def scores(doubt: Floats, wrong: Sequence[str], by_kind: dict[str, Floats] | None = None) -> dict[str, float]:
    """Return precision at N, and AUROC: of all errors, and by kind of a kind's own score."""
    from sklearn.metrics import roc_auc_score

    bad = np.array([bool(kind) for kind in wrong])
    first = np.argsort(-doubt, kind="stable")[: int(bad.sum())]
    found = {"precision": float(bad[first].mean()), "AUROC": float(roc_auc_score(bad, doubt))}
    for kind in KINDS:
        own = np.array([not w or w == kind for w in wrong])
        score = (by_kind or {}).get(kind, doubt)
        found[f"AUROC {kind}"] = float(roc_auc_score(bad[own], score[own]))
    return {name: round(value, 4) for name, value in found.items()}
