# SPDX-License-Identifier: Apache-2.0
"""The values that pass between the readers, the catalog and the trainers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expunge.data.findings import Findings

SPLITS = ("train", "val", "test")
VAL_IN_TRAIN = "val_in_train"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label, as a row of a dataset version.

    Attributes:
        path: POSIX path relative to the dataset root: the sample's identity.
        split: ``train``, ``val`` or ``test``.
        image_digest: SHA-256 of the image file's bytes, hex.
        label_digest: SHA-256 of the label file's bytes, hex; empty where there is no label file.
        class_name: The class folder for image classification, else None.
        subjects: Pseudonymous ids, sorted; empty if the sample concerns nobody.
        public: No erasure is expected (synthetic, licensed, signed for good).
        arrived: Number of the dataset version in which the sample arrived.
    """

    path: str
    split: str
    image_digest: str
    label_digest: str = ""
    class_name: str | None = None
    subjects: tuple[str, ...] = ()
    public: bool = False
    arrived: int = 1


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """What labels mean.

    Attributes:
        kind: ``yolo`` (label files beside images) or ``folders`` (a folder per class).
        names: Class names; the position is the class index in the label files.
        extra: ``kpt_shape``, ``flip_idx``, ``channels`` where the data set has them; ``val_in_train`` where
            every file of ``val`` is one of ``train``.
        class_map: For a model: its index for each class, None for a class whose labels it never saw; without
            it, classes are matched by name.
    """

    kind: str
    names: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    class_map: tuple[int | None, ...] | None = None

    @property
    def val_in_train(self) -> bool:
        """Whether every file of ``val`` is one of ``train``, so that nothing is held out there."""
        return bool(self.extra.get(VAL_IN_TRAIN))


@dataclass(frozen=True, slots=True)
class Scan:
    """A data set as found on disk: its root, its configuration and its samples sorted by path.

    ``notes`` say what was left out or taken in a certain way.
    """

    root: Path
    config: DatasetConfig
    samples: tuple[Sample, ...]
    risks: dict[str, float] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: Findings = field(default_factory=Findings)

    def without_problems(self) -> Scan:
        """Return the scan without the samples of val and test that cannot be read."""
        gone = {problem.path for problem in self.findings.problems}
        return replace(self, samples=tuple(s for s in self.samples if s.path not in gone)) if gone else self


@dataclass
class SubjectTable:
    """Which subjects are in which sample, and what is known about them."""

    subjects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    risks: dict[str, float] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def without(self, paths: Iterable[str]) -> SubjectTable:
        """Return the table without some samples."""
        gone = set(paths)
        if not gone:
            return self
        subjects = {path: who for path, who in self.subjects.items() if path not in gone}
        return SubjectTable(subjects, self.risks, {k: v for k, v in self.groups.items() if k[0] not in gone})


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable version of a dataset as the catalog knows it (its rows are asked for apart)."""

    dataset_id: int
    name: str
    number: int
    digest: str
    root: Path
    config: DatasetConfig
    samples: int
    subjects: int
    parent: int | None = None
    request_id: str | None = None

    @property
    def label(self) -> str:
        """``NAME@V``."""
        return f"{self.name}@{self.number}"
