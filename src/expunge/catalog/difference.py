# SPDX-License-Identifier: Apache-2.0
"""What a scan changes in a version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from expunge.data.digest import ManifestHasher
from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.errors import InputError


@dataclass
class Difference:
    """What a scan changes in a version. ``gone`` and ``changed`` hold row ids."""

    digest: str = ""
    samples: int = 0
    train: int = 0
    subjects: set[str] = field(default_factory=set)
    fresh: list[Sample] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
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
    """Merge the rows of a version with a scan, both sorted by path."""
    found, manifest = Difference(), ManifestHasher(config)
    public: set[str] = set()
    private: set[str] = set()

    def keep(sample: Sample) -> None:
        manifest.add(sample)
        found.samples += 1
        found.train += sample.split == "train"
        (public if sample.public else private).update(sample.subjects)

    rows, row = old, next(old, None)
    for new in scan.samples:
        while row is not None and row[1].path < new.path:
            if full:
                found.gone.append(row[0])
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
            found.changed.append(row_id)
        found.fresh.append(replace(new, arrived=number) if new.arrived != number else new)
        keep(new)
    while row is not None:
        if full:
            found.gone.append(row[0])
        else:
            keep(row[1])
        row = next(rows, None)
    found.digest, found.subjects, found.overlap = manifest.hexdigest(), public | private, public & private
    return found


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
    """Return the configuration of the next version: classes may be appended, never renamed or dropped."""
    if old.kind == "folders":  # a class is its folder's name: new ones go behind the known ones
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
