# SPDX-License-Identifier: Apache-2.0
"""A measurement of this process's arithmetic: the digest of a small, fixed training.

Kernels are chosen by processor, libraries and variables, and no list of these is complete. Therefore a small
model with the plan's kinds of layers, loss, augmentation and optimizer is trained for two steps on a fixed
picture. The optimizer's state contains every gradient in full precision, so a kernel that rounds differently
changes the digest.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from expunge.data.types import DatasetConfig, Sample
from expunge.storage.files import disk_errors
from expunge.storage.hashing import json_digest, tensor_digest
from expunge.storage.replay_folders import REPLAY_PREFIX
from expunge.tasks.base import get_task
from expunge.training.checkpoint import PARTS, State
from expunge.training.plan import Cell, Epochs, Placement, Plan
from expunge.training.schedule import Stage
from expunge.training.trainer import Hooks, run_stage

PICTURE = Path(__file__).with_name("probe.jpg")
COUNT, BATCH, LARGEST = 4, 2, 96
WIDEST, DEEPEST = 0.25, 0.5  # width and depth of the smallest YOLO26 that Ultralytics ships
RATE = 1e-3
BOXES = "{} 0.4 0.45 0.5 0.6\n{} 0.75 0.7 0.3 0.25\n"


def measure(plan: Plan, config: DatasetConfig) -> str:
    """Return the digest of the small training under a plan's arithmetic; it is measured once per process.

    Args:
        plan: Determines task, kinds of layers, optimizer, augmentation and threads.
        config: The dataset's configuration.

    Raises:
        StorageError: If files cannot be written to the temporary folder.
    """
    return _measured(_small_plan(plan).model_dump_json(), config.kind)


def _small_plan(plan: Plan) -> Plan:
    """Return a small plan with the same kinds of operations."""
    architecture = dict(plan.architecture)
    if isinstance(scales := architecture.get("scales"), dict):
        architecture["scales"] = {
            name: [min(depth, DEEPEST), min(width, WIDEST), *rest]
            for name, (depth, width, *rest) in scales.items()
        }
    recipe = plan.recipe.model_copy(
        update={
            "imgsz": min(plan.recipe.imgsz, LARGEST), "batch": BATCH, "lr0": RATE, "lrf": 1.0,
            "momentum": 0.9, "weight_decay": 5e-4, "warmup_epochs": 0.0, "close_mosaic": 0,
        }
    )  # fmt: skip
    return plan.model_copy(
        update={
            "architecture": architecture, "recipe": recipe, "epochs": Epochs(public=0, stages=(1,), polish=0),
            "shards": 1, "slices": 1, "seed": 0, "freeze": 0, "notes": (),
            "initial": plan.initial.model_copy(update={"source": "", "tensors": ""}),
            "placement": Placement(bins=((Cell(shard=0, slice=0, share=1.0),),)),
        }
    )  # fmt: skip


@lru_cache(maxsize=16)
def _measured(plan_json: str, kind: str) -> str:
    small = Plan.model_validate_json(plan_json)
    task = get_task(small.task)
    config = DatasetConfig(kind, small.names)
    start = task.initial(small)
    with (
        disk_errors("The data of a measurement"),
        tempfile.TemporaryDirectory(prefix=f"{REPLAY_PREFIX}{os.getpid()}-") as name,
    ):
        samples = _samples(Path(name), small, kind)
        data = task.data(small, config, Path(name), samples)
        stage = Stage("probe", 0, 1, 1, RATE, True)
        paths = [s.path for s in samples]
        state = run_stage(task, small, State(dict(start), dict(start)), stage, data, paths, Hooks())
    return _digest(state)


def _samples(root: Path, plan: Plan, kind: str) -> Sequence[Sample]:
    picture = PICTURE.read_bytes()
    image = hashlib.sha256(picture).hexdigest()
    found = []
    for i in range(COUNT):
        number = i % len(plan.names)
        text, name = BOXES.format(number, (i + 1) % len(plan.names)), plan.names[number]
        path = f"images/{i}.jpg" if kind == "yolo" else f"train/{number}/{i}.jpg"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(picture)
        label = ""
        if kind == "yolo":
            file = root / "labels" / f"{i}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            label = hashlib.sha256(text.encode()).hexdigest()
        found.append(Sample(path, "train", image, label, None if kind == "yolo" else name))
    return found


def _digest(state: State) -> str:
    parts: dict[str, Any] = {part: tensor_digest(getattr(state, part)) for part in PARTS}
    return json_digest({**parts, "scalars": state.scalars})
