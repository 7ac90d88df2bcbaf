# SPDX-License-Identifier: Apache-2.0
"""What the demo's report shows, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expunge.demo.scenes import Box

State = Literal["reused", "retrained"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the story: what was done, how long it took, and what it means."""

    title: str
    meaning: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Detection:
    """A box that a detector found, xyxy in pixels, and how sure it was."""

    box: Box
    confidence: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One scene with what the detector found before and after the erasure.

    Attributes:
        outlined: Faces of the person who left, if any.
    """

    image: Path
    caption: str
    before: tuple[Detection, ...]
    after: tuple[Detection, ...]
    outlined: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """How many of the person's faces in the erased pictures the detector finds, before and after."""

    faces: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class PersonPicture:
    """One picture that was erased, with the person's face in it."""

    image: Path
    caption: str
    face: Box


@dataclass(frozen=True, slots=True)
class Cell:
    """One stage of training, and what the erasure did with its checkpoint.

    Attributes:
        phase: ``public``, ``shard`` or ``polish``.
        shard, stage: Shard counted from 0 and stage from 1; -1 and 0 outside shards.
        images: Number of pictures that the stage trained on before the erasure.
        entry: The pictures of the person came in at this stage.
    """

    phase: str
    shard: int
    stage: int
    images: int
    entry: bool
    state: State


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One row of the accuracy table, measured on pictures of people whom no model saw. None: not measured."""

    name: str
    note: str
    map50: float | None
    map50_95: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the erasure cost, in units of a full retrain, and the CPU time of that retrain."""

    predicted: float | None
    measured: float
    retrain_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Proof:
    """Digests of the weights, and whether the replay in a fresh process gave the same. None: not checked."""

    before: str
    interim: str | None
    after: str
    equal: bool | None
    checks: tuple[tuple[str, bool | None, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """What the reader must know of the experiment."""

    subject: str
    model: str
    training_pictures: int
    public_people: int
    private_people: int
    unseen_people: int
    environment: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """The whole report."""

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
