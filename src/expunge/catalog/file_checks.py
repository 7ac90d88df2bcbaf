# SPDX-License-Identifier: Apache-2.0
"""Results of file checks: which images were decoded, and which label files are empty.

They are stored in the dataset's configuration: the numbers of versions whose new images were all decoded, and
the digests of label files without a row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from expunge.catalog.tables import DatasetRow, SampleRow
from expunge.catalog.versions import get_version, in_version, not_erased
from expunge.data.checks import image_key
from expunge.data.findings import Findings
from expunge.data.types import SPLITS, Version

DECODED, EMPTY = "decoded", "empty_labels"
MAX_EMPTY = 200  # label files without a row may differ in line ends, blanks and byte-order marks
NO_BYTES = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class FileChecks:
    """Results of the file checks of a dataset.

    Attributes:
        newest: Number of the newest version; 0 if the dataset does not exist yet.
        decoded: Versions whose new images were all decoded.
        empty_labels: Digests of label files without a row.
    """

    newest: int = 0
    decoded: frozenset[int] = frozenset()
    empty_labels: frozenset[str] = frozenset()


def read_file_checks(session: Session, name: str) -> FileChecks:
    """Return the recorded file checks of a dataset."""
    dataset = session.scalar(select(DatasetRow).where(DatasetRow.name == name))
    if dataset is None:
        return FileChecks()
    stored = dataset.config
    return FileChecks(
        get_version(session, name).number,
        frozenset(stored.get(DECODED, ())),
        frozenset(stored.get(EMPTY, ())),
    )


def decoded_images(session: Session, name: str) -> frozenset[str]:
    """Return the ``image_key`` of every image of a dataset's newest version that was decoded."""
    checked = read_file_checks(session, name)
    if not checked.decoded:
        return frozenset()
    version = get_version(session, name)
    query = select(SampleRow.image_digest, SampleRow.path).where(
        in_version(version.dataset_id, version.number),
        SampleRow.arrived.in_(sorted(checked.decoded)),
        not_erased(),
    )
    return frozenset(image_key(digest, path) for digest, path in session.execute(query))


def record_checks(
    session: Session, version: Version, before: FileChecks, findings: Findings, read: int
) -> None:
    """Record the file checks of a scan.

    Args:
        session: A session on the catalog.
        version: The version that the scan made or matched.
        before: The file checks recorded before the scan.
        findings: The findings of the scan.
        read: Number of samples read.
    """
    decoded = set(before.decoded)
    if not findings.undecoded and not any(problem.of_image for problem in findings.problems):
        if read == version.samples:
            decoded = set(range(1, version.number + 1))
        elif version.number > before.newest:
            decoded.add(version.number)
    empty = sorted(before.empty_labels | findings.empty_labels)[:MAX_EMPTY]
    row = session.get_one(DatasetRow, version.dataset_id)
    row.config = {**row.config, DECODED: sorted(decoded), EMPTY: empty}
    session.flush()


def count_labels(session: Session, version: Version) -> dict[str, dict[str, int]]:
    """Count a version's samples by their labels, in each split.

    Returns:
        Counts by kind, then by split. ``labelled``: the label file has a row. ``empty``: it has none
        (background). ``missing``: there is no label file. ``unlabelled``: ``empty`` plus ``missing``. In a
        classification folder all samples are labelled.
    """
    row = session.get_one(DatasetRow, version.dataset_id)
    empties = {NO_BYTES, *row.config.get(EMPTY, ())}
    missing = case((SampleRow.label_digest == "", 1), else_=0)
    empty = case((SampleRow.label_digest.in_(sorted(empties)), 1), else_=0)
    query = (
        select(SampleRow.split, func.count(), func.sum(missing), func.sum(empty))
        .where(and_(in_version(version.dataset_id, version.number)))
        .group_by(SampleRow.split)
    )
    found: dict[str, Any] = {split: rest for split, *rest in session.execute(query)}
    counts: dict[str, dict[str, int]] = {"labelled": {}, "unlabelled": {}, "empty": {}, "missing": {}}
    for split in (split for split in SPLITS if split in found):
        samples, without, background = (int(value) for value in found[split])
        if version.config.kind != "yolo":
            without = background = 0
        counts["labelled"][split] = samples - without - background
        counts["unlabelled"][split] = without + background
        counts["empty"][split], counts["missing"][split] = background, without
    return counts
