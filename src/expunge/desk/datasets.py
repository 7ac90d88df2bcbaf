# SPDX-License-Identifier: Apache-2.0
"""Datasets and their subjects as counts, and the one picture that somebody with the right asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from expunge.catalog.datasets import get_version, list_datasets, parse_ref, summarize
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
        return [_shown(version) for version in list_datasets(session)]


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
    """Return a version of a dataset with its counts, and the numbers of all versions.

    Raises:
        NotFound: If there is none such.
        InputError: If that is no name.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        found = summarize(session, version)
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
        **_shown(version),
        "splits": found["splits"],
        "classes": list(version.config.names),
        "class_samples": found["classes"],
        "public": found["public"],
        "erased_since": found["erased_since"],
        "versions": versions,
    }


def subjects(workspace: Workspace, ref: str) -> dict[str, Any]:
    """Return how many subjects a version has, and how many samples they have: counts, no ids.

    Returns:
        ``subjects``, ``samples_without`` a subject, and ``by_samples``: how many subjects have 1, 2–5, 6–20,
        21–100, or more samples.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        here = in_version(version.dataset_id, version.number) & not_erased()
        each = (
            select(func.count().label("n"))
            .select_from(SampleSubjectRow)
            .join(SampleRow, SampleRow.id == SampleSubjectRow.sample_id)
            .where(here)
            .group_by(SampleSubjectRow.subject_id)
            .subquery()
        )
        numbers: dict[int, int] = dict(
            session.execute(select(each.c.n, func.count()).group_by(each.c.n)).all()
        )
        linked = select(SampleSubjectRow.sample_id)
        without = session.scalar(
            select(func.count()).select_from(SampleRow).where(here, SampleRow.id.not_in(linked))
        )
    bins = {"1": (1, 1), "2-5": (2, 5), "6-20": (6, 20), "21-100": (21, 100), "more": (101, None)}
    return {
        "dataset": version.label,
        "subjects": sum(numbers.values()),
        "samples_without": without or 0,
        "by_samples": {
            name: sum(k for n, k in numbers.items() if n >= low and (high is None or n <= high))
            for name, (low, high) in bins.items()
        },
    }


def picture(workspace: Workspace, ref: str, path: str, may_read: Callable[[Path], bool]) -> bytes:
    """Return a sample as a small JPEG.

    Args:
        workspace: Where the dataset is known.
        ref: ``NAME[@V]``.
        path: As the catalog has it: what is no sample of that version is not read, wherever it leads.
        may_read: Whether files of a folder may be shown.

    Raises:
        NotFound: If it is no sample, was erased, is no picture, or may not be read; which is not told.
    """
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        here = in_version(version.dataset_id, version.number)
        known = session.scalar(select(SampleRow.id).where(here, not_erased(), SampleRow.path == path))
    file = version.root / path
    if known is None or not may_read(file):
        raise NotFound("There is no such picture.", "", "")
    small = thumbnail(file, SIDE_PIXELS)
    if small is None:
        raise NotFound("There is no such picture.", "", "")
    return small


def _shown(version: Version) -> dict[str, Any]:
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
