# SPDX-License-Identifier: Apache-2.0
"""Queries for datasets: versions, counts of subjects, and thumbnails of single samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from expunge.catalog.dataset_store import get_version, list_datasets, parse_ref, summarize
from expunge.catalog.tables import DatasetRow, SampleRow, SampleSubjectRow, VersionRow
from expunge.catalog.versions import in_version, not_erased
from expunge.data.thumbnail import thumbnail
from expunge.data.types import Version
from expunge.errors import NotFound

if TYPE_CHECKING:
    from expunge.workspace import Workspace

SIDE_PIXELS = 240


def datasets(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the newest version of every dataset, by name."""
    with workspace.session() as session:
        return [_summary(version) for version in list_datasets(session)]


def dataset_names(workspace: Workspace) -> list[str]:
    """Return the names of the datasets, sorted."""
    with workspace.session() as session:
        return list(session.scalars(select(DatasetRow.name).order_by(DatasetRow.name)))


def class_names(workspace: Workspace) -> list[str]:
    """Return the names of the classes of all datasets, sorted."""
    with workspace.session() as session:
        configs = session.scalars(select(DatasetRow.config))
        return sorted({name for config in configs for name in config["names"]})


def dataset(workspace: Workspace, ref: str) -> dict[str, Any]:
    """Return a version of a dataset with its counts, and all versions of the dataset.

    Args:
        workspace: The workspace.
        ref: ``NAME[@V]``.

    Raises:
        NotFound: If it does not exist.
        InputError: If the reference is malformed.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        summary = summarize(session, version)
        query = select(VersionRow).where(VersionRow.dataset_id == version.dataset_id)
        rows = session.scalars(query.order_by(VersionRow.number)).all()
        versions = [
            {
                "dataset": f"{version.name}@{row.number}",
                "parent": f"{version.name}@{row.parent}" if row.parent else None,
                "request": row.request_id,
                "samples": row.samples,
                "subjects": row.subjects,
                "created": row.created.isoformat(timespec="seconds"),
            }
            for row in rows
        ]
    return {
        **_summary(version),
        "splits": summary["splits"],
        "classes": list(version.config.names),
        "class_samples": summary["classes"],
        "public": summary["public"],
        "erased_since": summary["erased_since"],
        "versions": versions,
    }


def subjects(workspace: Workspace, ref: str) -> dict[str, Any]:
    """Return counts of a version's subjects, without ids.

    Returns:
        ``subjects``: number of subjects; ``samples_without``: number of samples without a subject;
        ``by_samples``: number of subjects with 1, 2–5, 6–20, 21–100 or more samples.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        in_use = in_version(version.dataset_id, version.number) & not_erased()
        per_subject = (
            select(func.count().label("n"))
            .select_from(SampleSubjectRow)
            .join(SampleRow, SampleRow.id == SampleSubjectRow.sample_id)
            .where(in_use)
            .group_by(SampleSubjectRow.subject_id)
            .subquery()
        )
        histogram: dict[int, int] = dict(
            session.execute(select(per_subject.c.n, func.count()).group_by(per_subject.c.n)).all()
        )
        linked = select(SampleSubjectRow.sample_id)
        without = session.scalar(
            select(func.count()).select_from(SampleRow).where(in_use, SampleRow.id.not_in(linked))
        )
    bins = {"1": (1, 1), "2-5": (2, 5), "6-20": (6, 20), "21-100": (21, 100), "more": (101, None)}
    return {
        "dataset": version.label,
        "subjects": sum(histogram.values()),
        "samples_without": without or 0,
        "by_samples": {
            name: sum(k for n, k in histogram.items() if n >= low and (high is None or n <= high))
            for name, (low, high) in bins.items()
        },
    }


def picture(workspace: Workspace, ref: str, path: str, may_read: Callable[[Path], bool]) -> bytes:
    """Return a thumbnail of a sample (JPEG).

    Args:
        workspace: The workspace.
        ref: ``NAME[@V]``.
        path: Path of the sample as in the catalog. Other files are never read.
        may_read: Returns whether a file may be shown.

    Raises:
        NotFound: If it is not a sample, was erased, is not an image, or may not be shown. The message does
            not say which.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        in_this = in_version(version.dataset_id, version.number)
        known = session.scalar(select(SampleRow.id).where(in_this, not_erased(), SampleRow.path == path))
    file = version.root / path
    if known is None or not may_read(file):
        raise NotFound("There is no such picture.", "", "")
    jpeg = thumbnail(file, SIDE_PIXELS)
    if jpeg is None:
        raise NotFound("There is no such picture.", "", "")
    return jpeg


def _summary(version: Version) -> dict[str, Any]:
    return {
        "dataset": version.label,
        "name": version.name,
        "version": version.number,
        "kind": version.config.kind,
        "samples": version.samples,
        "subjects": version.subjects,
        "parent": f"{version.name}@{version.parent}" if version.parent else None,
        "request": version.request_id,
    }
