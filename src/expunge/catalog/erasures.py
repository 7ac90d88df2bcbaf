# SPDX-License-Identifier: Apache-2.0
"""Erase samples from a dataset permanently."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import and_, case, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from expunge.catalog.bulk import in_chunks
from expunge.catalog.engine import begin_write
from expunge.catalog.selection import row_conditions
from expunge.catalog.suppression import suppress
from expunge.catalog.tables import SampleRow, VersionRow
from expunge.catalog.versions import (
    config_as_json,
    get_dataset,
    get_version,
    in_version,
    iter_rows,
    not_erased,
    version_of,
)
from expunge.data.manifest import ManifestHasher
from expunge.data.types import Version
from expunge.errors import InputError


class ErasedRow(NamedTuple):
    """A sample row to erase: its path, its image's digest, and the version in which it arrived."""

    path: str
    image: str
    arrived: int


def erase(
    session: Session, version: Version, paths: set[str], subjects: set[str], *, request_id: str, key: bytes
) -> Version:
    """Erase samples, suppress them, and return the resulting version of the dataset.

    The erasure covers the given paths, all samples of the given subjects, and all byte-identical copies. It
    marks rows of older versions too, so that no training uses them again.

    Args:
        session: A session on the catalog.
        version: Any version of the dataset; the result follows the newest one.
        paths: Paths of samples to erase.
        subjects: Ids of subjects to erase.
        request_id: The erasure request.
        key: The workspace's secret for the suppression list.

    Raises:
        InputError: If no sample matches, or no training sample would be left.
    """
    begin_write(session)
    current = get_version(session, version.name)
    number = current.number + 1
    rows = rows_to_erase(session, current.dataset_id, paths, subjects)
    if not rows:
        raise InputError(
            "Nothing is left to erase.",
            f"No sample of {current.label} matches the request.",
            "Check the selection.",
        )
    for ids in in_chunks(rows):
        session.execute(
            update(SampleRow)
            .where(SampleRow.id.in_(ids))
            .values(
                removed=case((SampleRow.removed.is_(None), number), else_=SampleRow.removed),
                removal="erased",
                request_id=request_id,
            )
            .execution_options(synchronize_session=False)
        )
    _check_some_left(session, current, number)
    suppress(
        session,
        key,
        current.name,
        subjects=subjects,
        paths=(row.path for row in rows.values()),
        images=(row.image for row in rows.values()),
        request_id=request_id,
    )
    dataset = get_dataset(session, current.name)
    manifest, count, people = ManifestHasher(current.config), 0, set[str]()
    for _, sample in iter_rows(session, in_version(current.dataset_id, number)):
        manifest.add(sample)
        count += 1
        people.update(sample.subjects)
    row = VersionRow(
        dataset_id=current.dataset_id,
        number=number,
        parent=current.number,
        request_id=request_id,
        digest=manifest.hexdigest(),
        config=config_as_json(current.config),
        samples=count,
        subjects=len(people),
    )
    session.add(row)
    session.flush()
    return version_of(dataset, row)


def any_erased(session: Session) -> bool:
    """Return whether any request has erased samples in this workspace."""
    query = select(VersionRow.id).where(VersionRow.request_id.is_not(None)).limit(1)
    return session.scalar(query) is not None


def rows_to_erase(
    session: Session, dataset_id: int, paths: set[str], subjects: set[str]
) -> dict[int, ErasedRow]:
    """Return the rows that :func:`erase` would erase, by row id, including rows only in older versions."""
    rows: dict[int, ErasedRow] = {}
    for condition in row_conditions(dataset_id, subjects, paths):
        _collect(session, condition, rows)
    for chunk in in_chunks({row.image for row in rows.values()}):
        same = and_(SampleRow.dataset_id == dataset_id, SampleRow.image_digest.in_(chunk))
        _collect(session, and_(same, not_erased()), rows)
    return rows


def _collect(session: Session, condition: ColumnElement[bool], rows: dict[int, ErasedRow]) -> None:
    query = select(SampleRow.id, SampleRow.path, SampleRow.image_digest, SampleRow.arrived).where(condition)
    for row_id, path, image, arrived in session.execute(query):
        rows[row_id] = ErasedRow(path, image, arrived)


def _check_some_left(session: Session, version: Version, number: int) -> None:
    query = select(func.count()).where(in_version(version.dataset_id, number), SampleRow.split == "train")
    if not session.scalar(query):
        raise InputError(
            "The request would leave nothing to train on.",
            f"It removes every sample from the train split of {version.label}.",
            "Remove the models and the dataset instead, or keep at least one sample.",
        )
