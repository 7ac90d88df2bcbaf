# SPDX-License-Identifier: Apache-2.0
"""The data of the demo's report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expunge.demo.scenes import Box

State = Literal["reused", "retrained"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the demo: its title, its explanation and its duration."""

    title: str
    meaning: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Detection:
    """A detected box, xyxy in pixels, and its confidence."""

    box: Box
    confidence: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One scene with the detections before and after the erasure.

    Attributes:
        outlined: Faces of the erased person, if any.
    """

    image: Path
    caption: str
    before: tuple[Detection, ...]
    after: tuple[Detection, ...]
    outlined: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """Number of the person's faces in the erased pictures, and of those detected before and after."""

    faces: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class PersonPicture:
    """One erased picture, with the box of the person's face, xyxy in pixels."""

    image: Path
    caption: str
    face: Box


@dataclass(frozen=True, slots=True)
class Cell:
    """One stage of training, and whether the erasure reused or retrained it.

    Attributes:
        phase: ``public``, ``shard`` or ``polish``.
        shard, stage: Shard counted from 0 and stage from 1; -1 and 0 outside shards.
        images: Number of pictures that the stage trained on before the erasure.
        entry: Whether this is the first stage with pictures of the person.
    """

    phase: str
    shard: int
    stage: int
    images: int
    entry: bool
    state: State


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One row of the accuracy table, measured on people whom no model saw; None: not measured."""

    name: str
    note: str
    map50: float | None
    map50_95: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of the erasure as a fraction of a full retrain, and the CPU time of that retrain."""

    predicted: float | None
    measured: float
    retrain_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Proof:
    """Digests of the weights, and whether the replay gave the same digest; None: not checked."""

    before: str
    interim: str | None
    after: str
    equal: bool | None
    checks: tuple[tuple[str, bool | None, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """The setting of the experiment."""

    subject: str
    model: str
    training_pictures: int
    public_people: int
    private_people: int
    unseen_people: int
    environment: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """All data of the report."""

    setting: Setting
    date: str
    interim_seconds: float | None
    steps: tuple[Step, ...]
    pictures: tuple[PersonPicture, ...]
    comparisons: tuple[Comparison, ...]
    found: Found
    cells: tuple[Cell, ...]
    accuracy: tuple[Accuracy, ...]
    cost: Cost
    proof: Proof
    commands: tuple[str, ...]
