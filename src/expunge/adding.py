# SPDX-License-Identifier: Apache-2.0
"""What `data add` does around a new version: which images need decoding, label counts, and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog.checked import CheckedFiles, count_labels, known_good, record_checks
from expunge.catalog.tables import SampleRow
from expunge.catalog.versions import in_version
from expunge.data.checks import ImageChecks
from expunge.data.findings import Problem, describe
from expunge.data.label_counts import check_labels, unsupported_channels
from expunge.data.types import Scan, Version
from expunge.errors import InputError

if TYPE_CHECKING:
    from expunge.workspace import Workspace

CHUNK = 500


@dataclass(frozen=True)
class AddedVersion:
    """What `data add` says of a version besides its manifest.

    Attributes:
        labels: As of :func:`expunge.catalog.checked.count_labels`.
        warnings: For people.
    """

    labels: dict[str, dict[str, int]]
    warnings: tuple[str, ...]


def image_checks(workspace: Workspace, name: str, *, decode: bool) -> ImageChecks:
    """Return how far images are checked: none that was decoded before, for the same dataset, is again.

    Args:
        workspace: Where the dataset may be known.
        name: Its name.
        decode: Whether the others are decoded.
    """

    def known() -> frozenset[str]:
        with workspace.session() as session:
            return known_good(session, name)

    return ImageChecks(decode, known)


def finish_adding(
    session: Session, version: Version, before: CheckedFiles, scan: Scan, *, partly: bool
) -> AddedVersion:
    """Judge a version that was just made, and keep which of its files were checked.

    Args:
        session: The session in which it was made; an error takes the version back.
        version: The version.
        before: What was known of the dataset's files before.
        scan: What was read.
        partly: Some of what was read may not be in the version.

    Raises:
        InputError: If no image of train has a label, or what was left out is still in the version.
    """
    _check_left_out(session, version, scan.findings.left_out)
    record_checks(session, version, before, scan.findings, -1 if partly else len(scan.samples))
    labels = count_labels(session, version)
    return AddedVersion(labels, tuple(_warnings(version, scan, labels)))


def _warnings(version: Version, scan: Scan, labels: dict[str, dict[str, int]]) -> Iterator[str]:
    if version.config.kind == "yolo":
        yield from check_labels(scan, labels)
    if found := unsupported_channels(version.config):
        yield f"{found}. Only pictures of three channels are supported: no plan can be made for this dataset."
    yield from scan.findings.warnings()


def _check_left_out(session: Session, version: Version, left_out: tuple[Problem, ...]) -> None:
    """Refuse to leave out samples that an earlier version holds, and that would stay in this one."""
    paths = {problem.path: problem for problem in left_out}
    held: list[str] = []
    for start in range(0, len(left_out), CHUNK):
        chunk = [problem.path for problem in left_out[start : start + CHUNK]]
        query = select(SampleRow.path).where(
            in_version(version.dataset_id, version.number), SampleRow.path.in_(chunk)
        )
        held += session.scalars(query)
    if held:
        raise InputError(
            f"{len(held)} files that cannot be used are samples of {version.name} already.",
            describe("They would stay in it as they were", [paths[path] for path in sorted(held)]),
            "Restore them; or, if PATH is all there is, add --full, and they leave the dataset.",
        )
