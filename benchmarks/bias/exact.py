# SPDX-License-Identifier: Apache-2.0
"""Experiment ``exact``: the coloured digits, trained erasable; contributor A is forgotten exactly."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks.bias.coloured import PIXELS, Coloured, draw
from benchmarks.bias.report import Row
from benchmarks.inline import in_turn
from expunge.bias.metrics import classification
from expunge.catalog.dataset_store import add_version, get_version, load_samples
from expunge.catalog.model_store import ModelVersion, find_model
from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.data.types import Sample
from expunge.erasure import execution
from expunge.erasure.scope import ErasureRequest
from expunge.exact import runner
from expunge.exact.model import plan_file
from expunge.exact.planner import Options, parse_value
from expunge.models import training
from expunge.progress import Progress
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.predictions import class_probabilities
from expunge.tasks.yolo import open_model, samples_of, yolo_task
from expunge.workspace import Workspace

SEEDS = 5
BASE = "erasable"
FIGURES = ("worst group", "gap", "accuracy", "CPU seconds")
FROM_A, FROM_B, NOISE, TESTED = 360, 180, 0.25, 300
SHARDS, SLICES, EPOCHS, POLISH = 2, 2, 24, 12
IMGSZ, BATCH, ENLARGED, IN_A_SESSION = 32, 16, 4, 30
NAMES = ("high", "low")
SETTINGS = {
    "lr0": "0.005", "polish_lr": "0.005", "polish_epochs": str(POLISH), "scale": "1.0", "fliplr": "0.0",
    "hsv_h": "0.0", "hsv_s": "0.0", "hsv_v": "0.0", "erasing": "0.0", "auto_augment": "none",
}  # fmt: skip
ARCHITECTURE = """\
nc: 2
scales:
  n: [1.0, 1.0, 64]
backbone:
  - [-1, 1, Conv, [16, 3, 4]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""
ABOUT = (
    f"The coloured digits of [colours](colours.md), fewer and less noisy, as pictures of {IMGSZ} "
    f"px for three convolutions below YOLO26's classification head; {TESTED} digits in both colours to test. "
    f"Each contributor's pictures came in sessions of {IN_A_SESSION}, which are the subjects: "
    f"{FROM_A // IN_A_SESSION} of A, {FROM_B // IN_A_SESSION} of B. *erasable*: `expunge train` with "
    f"{SHARDS} shards, {SLICES} slices and {EPOCHS} epochs, merged, and {POLISH} epochs of joint polish, "
    "since shards that start from random weights make a poor mean. *exact*: all sessions of A are forgotten "
    "by `forget --method exact`. *replay*: the same plan in a new workspace on a folder in which A never "
    f"was. *plain retrain*: one ordinary training of {EPOCHS + POLISH} epochs on B's pictures. CPU seconds "
    "are those of the trainings. All stages are trained by the workers' code in one process; with a process "
    "for each, as users have it, the digests of *exact* and *replay* were equal as well (seed 100, half of "
    "the epochs)."
)


@dataclass(frozen=True)
class World:
    """A workspace that knows the pictures, on a folder that holds them."""

    workspace: Workspace
    root: Path

    def part(self, split: str) -> list[Sample]:
        """Return the rows of a split that are there now."""
        with self.workspace.session() as session:
            return load_samples(session, get_version(session, "digits"), split, without_erased=True)

    def newest(self) -> ModelVersion:
        """Return the model's newest version."""
        with self.workspace.session() as session:
            return find_model(session, "m")


def write(root: Path, data: Coloured, *, without_a: bool) -> None:
    """Write the pictures and the table of subjects; without A: as if A had never been."""
    rows = []
    seen, tested = {"A": 0, "B": 0}, 0
    for i, (part, who) in enumerate(zip(data.part, data.contributor, strict=True)):
        session = ""
        if who:
            session = f"{who}{seen[who] // IN_A_SESSION:02d}"
            seen[who] += 1
        tested += part == "test"
        if (who == "A" and without_a) or tested > 2 * TESTED:
            continue
        split = {"train": "train", "guard": "val", "test": "test"}[part]
        colour = ("red", "green")[int(data.colours[i])]
        name = f"{split}/{NAMES[1 - int(data.targets[i])]}/{session}-{colour}-{i:04d}.png"
        pixels = np.zeros((PIXELS, PIXELS, 3))
        pixels[:, :, :2] = data.pictures[i].numpy().transpose(1, 2, 0)
        large = (pixels.clip(0, 1) * 255).astype(np.uint8).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(large).save(target)
        if session:
            rows.append((name, session))
    with open(root.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("sample", "subject"), *rows])


def world(folder: Path, data: Coloured, *, without_a: bool = False) -> World:
    """Make a workspace of the pictures."""
    root = folder / "digits"
    write(root, data, without_a=without_a)
    workspace = Workspace.init(folder / "w")
    found = attach_subjects(scan(root), read_subjects(root.with_suffix(".csv")))
    with workspace.session(write=True) as session:
        add_version(session, "digits", found, key=workspace.key)
    return World(workspace, root)


def run(seed: int, *, quick: bool = False, device: str = "cpu") -> Iterator[Row]:
    """Yield the figures of the erasable model, of what forgetting makes of it, and of plain trainings."""
    data, epochs, polish = draw(seed, FROM_A, FROM_B, NOISE), *((2, 1) if quick else (EPOCHS, POLISH))
    with tempfile.TemporaryDirectory() as folder, patch.object(runner, "_parallel", in_turn):
        os.environ["EXPUNGE_KEYS"] = f"{folder}/keys"  # of workspaces that are thrown away
        work = Path(folder)

        @cache
        def begun() -> tuple[World, ModelVersion]:
            made = world(work / "with", data)
            architecture = work / "small.yaml"
            architecture.write_text(ARCHITECTURE, encoding="utf-8")
            options = Options(
                str(architecture), SHARDS, SLICES, epochs, IMGSZ, BATCH, seed,
                settings={**SETTINGS, "polish_epochs": str(polish)},
            )  # fmt: skip
            trained = training.train(
                made.workspace, "digits", "m", options=options, progress=Progress(quiet=True)
            )
            return made, trained

        @cache
        def forgotten() -> dict[str, Any]:
            made, _ = begun()
            gone = sorted({who for s in made.part("train") for who in s.subjects if who.startswith("A")})
            ask = ErasureRequest(subjects=gone, dataset="digits", method="exact")
            entry: dict[str, Any] = execution.forget(made.workspace, ask, Progress(quiet=True))["models"][0]
            return entry

        def erasable() -> dict[str, Any]:
            made, trained = begun()
            return {
                **figures(made, made.workspace.root / trained.weights),
                "CPU seconds": trained.cpu_seconds,
            }

        def exact() -> dict[str, Any]:
            (made, trained), entry = begun(), forgotten()
            seconds = round(entry["cost_measured"] * trained.cpu_seconds, 2)
            return {
                **figures(made, Path(entry["weights"])),
                "CPU seconds": seconds,
                "digest": entry["digest"],
            }

        def replay() -> dict[str, Any]:
            (made, trained), entry = begun(), forgotten()
            plan = plan_file(made.workspace, str(trained.plan_digest))
            shutil.copytree(plan.parent, work / "plan")
            never = world(work / "never", data, without_a=True)
            again = training.train(
                never.workspace,
                "digits",
                "m",
                from_plan=work / "plan" / plan.name,
                progress=Progress(quiet=True),
            )
            same = (
                "equal"
                if again.digest.removeprefix("sha256:") == entry["digest"].removeprefix("sha256:")
                else "DIFFERENT"
            )
            return {
                **figures(never, never.workspace.root / again.weights),
                "CPU seconds": again.cpu_seconds,
                "note": f"its digest and that of *exact* are {same}",
            }

        def plain_retrain() -> dict[str, Any]:
            made, trained = begun()
            opened = open_model(made.workspace.root / trained.weights)
            with made.workspace.session() as session:
                version = get_version(session, "digits", 1)
            rows = [s for s in scan(made.root).samples if s.split == "train" and "/A" not in s.path]
            began = time.process_time()
            model = yolo_task(opened, device).retrain(
                opened.module,
                samples_of(opened, made.root, version.config, rows),
                epochs=epochs + polish,
                generator=torch.Generator().manual_seed(seed),
                images=lambda count: None,
                batch=BATCH,
                **{k: parse_value(v) for k, v in SETTINGS.items() if not k.startswith("polish")},
            )
            seconds = round(time.process_time() - began, 2)
            return {
                **figures(made, LoadedModel(model, "classify", opened.names, IMGSZ, {})),
                "CPU seconds": seconds,
            }

        yield BASE, erasable
        yield "exact", exact
        yield "replay", replay
        yield "plain retrain", plain_retrain


def figures(made: World, model: Path | LoadedModel) -> dict[str, Any]:
    """Return the accuracy of the worst of the four groups, the gap, and the accuracy of all."""
    opened = open_model(model) if isinstance(model, Path) else model
    rows = made.part("test")
    with made.workspace.session() as session:
        config = get_version(session, "digits").config
    truth, sure = class_probabilities([opened], made.root, config, rows)
    green = np.array(["-green-" in row.path for row in rows], dtype=np.int64)
    predicted = sure.argmax(1)
    found = classification.accuracy(classification.count(truth, predicted, 2 * truth + green, 4, 2))
    return {
        "worst group": round(float(found.min()), 4),
        "gap": round(classification.gap(found), 4),
        "accuracy": round(float((predicted == truth).mean()), 4),
    }
