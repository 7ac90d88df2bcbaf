# SPDX-License-Identifier: Apache-2.0
"""Comparison of a scan with a dataset version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from expunge.data.manifest import ManifestHasher
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.errors import InputError


@dataclass
class Difference:
    """The changes that a scan makes to a version, and the content of the resulting version.

    Attributes:
        digest: Manifest digest of the result.
        samples: Number of samples in the result.
        train: Number of samples in its train split.
        subjects: Subjects in the result.
        added: New or changed samples.
        missing: Row ids of samples that are not in the scan.
        changed: Row ids of samples that the scan replaces.
        overlap: Subjects that are in both public and private samples.
    """

    digest: str = ""
    samples: int = 0
    train: int = 0
    subjects: set[str] = field(default_factory=set)
    added: list[Sample] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    overlap: set[str] = field(default_factory=set)


def compare(
    old: Iterator[tuple[int, Sample]],
    scan: Scan,
    config: DatasetConfig,
    number: int,
    *,
    full: bool,
    keep_subjects: bool = False,
    keep_public: bool = False,
) -> Difference:
    """Return the changes that a scan makes to a version.

    Args:
        old: Row ids and samples of the version, sorted by path.
        scan: The scan, sorted by path.
        config: Configuration of the resulting version.
        number: Number of the resulting version.
        full: Remove samples that are missing from the scan.
        keep_subjects: Known samples keep their subjects.
        keep_public: Known samples keep their public mark.
    """
    difference, manifest = Difference(), ManifestHasher(config)
    public: set[str] = set()
    private: set[str] = set()

    def keep(sample: Sample) -> None:
        manifest.add(sample)
        difference.samples += 1
        difference.train += sample.split == "train"
        (public if sample.public else private).update(sample.subjects)

    rows, row = old, next(old, None)
    for new in scan.samples:
        while row is not None and row[1].path < new.path:
            if full:
                difference.missing.append(row[0])
            else:
                keep(row[1])
            row = next(rows, None)
        if row is not None and row[1].path == new.path:
            row_id, known = row
            row = next(rows, None)
            if keep_subjects and new.subjects != known.subjects:
                new = replace(new, subjects=known.subjects)
            if keep_public and new.public != known.public:
                new = replace(new, public=known.public)
            if _content(new) == _content(known):
                keep(known)
                continue
            difference.changed.append(row_id)
        difference.added.append(replace(new, arrived=number) if new.arrived != number else new)
        keep(new)
    while row is not None:
        if full:
            difference.missing.append(row[0])
        else:
            keep(row[1])
        row = next(rows, None)
    difference.digest = manifest.hexdigest()
    difference.subjects, difference.overlap = public | private, public & private
    return difference


def _content(sample: Sample) -> tuple[object, ...]:
    return (
        sample.split,
        sample.image_digest,
        sample.label_digest,
        sample.class_name,
        sample.subjects,
        sample.public,
    )


def merge_config(name: str, old: DatasetConfig, new: DatasetConfig) -> DatasetConfig:
    """Return the configuration of the next version. Classes may be appended, never renamed or removed.

    Raises:
        InputError: If a class was renamed, reordered or removed.
    """
    if old.kind == "folders":  # new class folders are appended, so that known indices stay
        added = [class_name for class_name in new.names if class_name not in old.names]
        return DatasetConfig(old.kind, (*old.names, *added), new.extra)
    if new.names[: len(old.names)] != old.names:
        missing = [class_name for class_name in old.names if class_name not in new.names]
        raise InputError(
            f"The classes of dataset {name!r} may not be renamed, reordered or removed.",
            f"Missing now: {', '.join(missing)}." if missing else "Their order is another one than before.",
            "Append new classes at the end of 'names', or add the data under another name.",
        )
    return new
