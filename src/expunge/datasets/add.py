# SPDX-License-Identifier: Apache-2.0
"""Checks a new dataset version for ``data add``: images to decode, label counts, warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog.file_checks import FileChecks, count_labels, decoded_images, record_checks
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
    """The report of ``data add`` on a new version, besides its manifest.

    Attributes:
        labels: Result of :func:`expunge.catalog.file_checks.count_labels`.
        warnings: Warnings for the user.
    """

    labels: dict[str, dict[str, int]]
    warnings: tuple[str, ...]


def image_checks(workspace: Workspace, name: str, *, decode: bool) -> ImageChecks:
    """Return the checks of a dataset's images; images that were decoded before are not decoded again.

    Args:
        workspace: The workspace, which may have the dataset.
        name: Name of the dataset.
        decode: Whether new and changed images are decoded.
    """

    def known() -> frozenset[str]:
        with workspace.session() as session:
            return decoded_images(session, name)

    return ImageChecks(decode, known)


def finish_adding(
    session: Session, version: Version, before: FileChecks, scan: Scan, *, partly: bool
) -> AddedVersion:
    """Check a new version, record which of its files were checked, and return the report.

    Args:
        session: The session in which the version was made; an error rolls it back.
        version: The version.
        before: The files of the dataset that were checked before.
        scan: The result of reading the dataset.
        partly: Whether some of the scanned samples may not be in the version.

    Raises:
        InputError: If no training image has a label, or an unusable file is still in the version.
    """
    _check_left_out(session, version, scan.findings.left_out)
    record_checks(session, version, before, scan.findings, -1 if partly else len(scan.samples))
    labels = count_labels(session, version)
    return AddedVersion(labels, tuple(_warnings(version, scan, labels)))


def _warnings(version: Version, scan: Scan, labels: dict[str, dict[str, int]]) -> Iterator[str]:
    """Yield warnings about labels, channels and files."""
    if version.config.kind == "yolo":
        yield from check_labels(scan, labels)
    if found := unsupported_channels(version.config):
        yield f"{found}. Only pictures of three channels are supported: no plan can be made for this dataset."
    yield from scan.findings.warnings()


def _check_left_out(session: Session, version: Version, left_out: tuple[Problem, ...]) -> None:
    """Raise an error for unusable files that are samples of an earlier version and would stay in this one."""
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
            "Restore them; or, if PATH is the whole dataset, add --full to remove them from it.",
        )
