# SPDX-License-Identifier: AGPL-3.0-or-later
"""Data sets whose people are in groups, and models that nobody trained: enough for every figure."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import torch
import worlds
from PIL import Image

from expunge.catalog.dataset_store import add_version
from expunge.data.scan import scan
from expunge.data.subjects import attach_subjects, read_subjects
from expunge.models import training
from expunge.tasks.weights import build_module, open_source, pack
from expunge.workspace import Workspace

COLUMNS = ("tone", "age")
SECRET = "Zyx-tone-9000"  # the value of one person's group, searched for where it must not be


@dataclass
class Grouped:
    """A workspace with the dataset ``shop`` and the model ``m``, which was adopted.

    Attributes:
        folder: Of all.
        workspace: It.
        tones: By subject.
        table: The rows of subjects.csv.
    """

    folder: Path
    workspace: Workspace
    tones: dict[str, str]
    table: list[tuple[str, ...]] = field(default_factory=list)

    def groups_file(self, header: str, rows: list[tuple[str, ...]], name: str = "groups.csv") -> Path:
        """Write a table of groups of its own."""
        path = self.folder / name
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(rows)
        return path


def grouped(folder: Path, task: str = "classify", people: int = 12, each: int = 2) -> Grouped:
    """Draw it: ``people`` dark and light ones in the test split, three rare, two of whom nothing is known.

    In training there are as many, and somebody of a tone that no split but that has.
    """
    tones: dict[str, str] = {}
    for split in ("train", "val", "test"):
        for i in range(people):
            tones[f"{split}-d{i}"], tones[f"{split}-l{i}"] = "dark", "light"
        for i in range(3):
            tones[f"{split}-r{i}"] = "rare"
        for i in range(2):
            tones[f"{split}-u{i}"] = ""
    tones["train-only"] = SECRET
    root, table = folder / "data", []
    for who, tone in tones.items():
        split = who.split("-")[0]
        for k in range(each):
            label = ("box", "disc")[(sum(who.encode()) + k) % 2]
            if task == "classify":
                path = f"{split}/{label}/{who}-{k}.png"
                image = root / path
                image.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(worlds.pixels(path)).save(image)
            else:
                path = f"images/{split}/{who}-{k}.png"
                worlds._draw(root, path)
            table.append((path, who, tone, ("young", "old")[k % 2]))
    source = root
    if task == "detect":
        source = root / "data.yaml"
        source.write_text(
            "train: images/train\nval: images/val\ntest: images/test\nnames: [box, disc]\n", encoding="utf-8"
        )
    made = Grouped(folder, Workspace.init(folder / "w"), tones, table)
    listed = made.groups_file(",".join(("sample", "subject", *COLUMNS)), table, "subjects.csv")
    found = attach_subjects(scan(source), read_subjects(listed))
    with made.workspace.session(write=True) as session:
        add_version(session, "shop", found, key=made.workspace.key)
    training.adopt(made.workspace, untrained(folder, task), "shop", "m")
    return made


def untrained(folder: Path, task: str, seed: int = 0) -> Path:
    """Write a model with random weights."""
    torch.manual_seed(seed)
    source = open_source(str(worlds.tiny_architecture(folder, task)))
    names = ("box", "disc")
    module = build_module(task, source.architecture, names)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    path = folder / f"untrained-{task}-{seed}.pt"
    path.write_bytes(pack(module, {"task": task, "imgsz": 32, "batch": 4, "epochs": 1}))
    return path
