# SPDX-License-Identifier: Apache-2.0
"""Value types shared by the dataset readers, the catalog and the trainers."""

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
        path: POSIX path relative to the dataset root; identifies the sample.
        split: ``train``, ``val`` or ``test``.
        image_digest: SHA-256 of the image file's bytes, hex.
        label_digest: SHA-256 of the label file's bytes, hex; empty if there is no label file.
        class_name: The class folder for image classification, else None.
        subjects: Pseudonymous ids, sorted; empty if the sample concerns nobody.
        public: No erasure is expected (synthetic, licensed, or consent given permanently).
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
    """Configuration of a dataset: its layout and its classes.

    Attributes:
        kind: ``yolo`` (label files beside images) or ``folders`` (one folder per class).
        names: Class names; the position is the class index in the label files.
        extra: ``kpt_shape``, ``flip_idx``, ``kpt_names`` and ``channels`` if the dataset sets them;
            ``val_in_train`` if every file of ``val`` is also in ``train``.
        class_map: The model's class index for each class, or None for a class that the model was not trained
            on. Without a map, classes are matched by name.
    """

    kind: str
    names: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    class_map: tuple[int | None, ...] | None = None

    @property
    def val_in_train(self) -> bool:
        """Whether every file of ``val`` is also in ``train``, so that ``val`` is not held out."""
        return bool(self.extra.get(VAL_IN_TRAIN))


@dataclass(frozen=True, slots=True)
class Scan:
    """A dataset as found on disk.

    Attributes:
        root: Folder of the dataset.
        config: Configuration of the dataset.
        samples: Samples, sorted by path.
        risks: Risk of withdrawal (0 to 1) by subject.
        groups: Values of the group columns by (path, subject).
        notes: Notes on files that were left out or interpreted.
        findings: Unusable files and differences from Ultralytics.
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
        unusable = {problem.path for problem in self.findings.problems}
        if not unusable:
            return self
        return replace(self, samples=tuple(s for s in self.samples if s.path not in unusable))


@dataclass
class SubjectTable:
    """The user's table of subjects.

    Attributes:
        subjects: Subjects by path.
        risks: Risk of withdrawal (0 to 1) by subject.
        groups: Values of the group columns by (path, subject).
    """

    subjects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    risks: dict[str, float] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def without(self, paths: Iterable[str]) -> SubjectTable:
        """Return the table without the given samples."""
        removed = set(paths)
        if not removed:
            return self
        subjects = {path: names for path, names in self.subjects.items() if path not in removed}
        groups = {pair: values for pair, values in self.groups.items() if pair[0] not in removed}
        return SubjectTable(subjects, self.risks, groups)


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable dataset version, without its rows."""

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
