# SPDX-License-Identifier: Apache-2.0
"""Read datasets and their versions from the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from expunge.catalog.tables import (
    DatasetRow,
    OpaqueLeaf,
    SampleRow,
    SampleSubjectRow,
    SubjectRow,
    VersionRow,
)
from expunge.data.types import DatasetConfig, Sample, Version
from expunge.errors import NotFound

BATCH = 10_000


def get_dataset(session: Session, name: str) -> DatasetRow:
    """Return the row of a dataset.

    Raises:
        NotFound: If the name is unknown; the message lists the known ones.
    """
    row = session.scalar(select(DatasetRow).where(DatasetRow.name == name))
    if row is None:
        known = ", ".join(session.scalars(select(DatasetRow.name).order_by(DatasetRow.name)))
        raise NotFound(
            f"There is no dataset {name!r}.",
            f"Known datasets: {known}." if known else "The workspace has no dataset yet.",
            "Add it with: expunge data add NAME PATH",
        )
    return row


def get_version(session: Session, name: str, number: int | None = None) -> Version:
    """Return a version of a dataset; by default the newest.

    Raises:
        NotFound: If the dataset or the version does not exist.
    """
    dataset = get_dataset(session, name)
    newest = newest_number(session, dataset.id)
    wanted = newest if number is None else number
    row = session.scalar(
        select(VersionRow).where(VersionRow.dataset_id == dataset.id, VersionRow.number == wanted)
    )
    if row is None:
        raise NotFound(
            f"There is no version {name}@{wanted}.",
            f"The versions of {name} are 1 to {newest}.",
            f"See them with: expunge data show {name}",
        )
    return version_of(dataset, row)


def newest_number(session: Session, dataset_id: int) -> int:
    """Return the number of a dataset's newest version."""
    return session.scalar(select(func.max(VersionRow.number)).where(VersionRow.dataset_id == dataset_id)) or 0


def version_of(dataset: DatasetRow, row: VersionRow) -> Version:
    """Return the :class:`Version` made from a dataset row and a version row."""
    return Version(
        dataset_id=dataset.id,
        name=dataset.name,
        number=row.number,
        digest=row.digest,
        root=Path(dataset.root),
        config=config_from_json(dataset.kind, row.config),
        samples=row.samples,
        subjects=row.subjects,
        parent=row.parent,
        request_id=row.request_id,
    )


def config_as_json(config: DatasetConfig) -> dict[str, Any]:
    """Return a configuration as stored in the catalog. Its kind is a column of the dataset."""
    return {"names": list(config.names), "extra": config.extra}


def config_from_json(kind: str, stored: dict[str, Any]) -> DatasetConfig:
    """Return the configuration that ``config_as_json`` stored."""
    return DatasetConfig(kind, tuple(stored["names"]), dict(stored["extra"]))


def list_datasets(session: Session) -> list[Version]:
    """Return the newest version of every dataset, by name."""
    names = session.scalars(select(DatasetRow.name).order_by(DatasetRow.name)).all()
    return [get_version(session, name) for name in names]


def in_version(dataset_id: int, number: int) -> ColumnElement[bool]:
    """Return the SQL condition that a sample row belongs to a version."""
    return and_(
        SampleRow.dataset_id == dataset_id,
        SampleRow.arrived <= number,
        or_(SampleRow.removed.is_(None), SampleRow.removed > number),
    )


def not_erased() -> ColumnElement[bool]:
    """Return the SQL condition that a sample row was not erased by a request."""
    return or_(SampleRow.removal.is_(None), SampleRow.removal != "erased")


def iter_rows(session: Session, condition: ColumnElement[bool]) -> Iterator[tuple[int, Sample]]:
    """Yield the id and the sample of each row that meets a condition, sorted by path, in bounded memory."""
    table = SampleRow.__table__.c
    query: Select[Any] = (
        select(
            table.id,
            table.path,
            table.split,
            table.image_digest,
            table.label_digest,
            table.class_name,
            table.public,
            table.arrived,
            SubjectRow.name,
        )
        .select_from(SampleRow)
        .outerjoin(SampleSubjectRow, SampleSubjectRow.sample_id == SampleRow.id)
        .outerjoin(SubjectRow, SubjectRow.id == SampleSubjectRow.subject_id)
        .where(condition)
        .order_by(SampleRow.path, SampleRow.id)
        .execution_options(yield_per=BATCH)
    )
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row_id, group in groupby(session.execute(query), key=itemgetter(0)):
        rows = list(group)
        subjects = tuple(sorted(row[8] for row in rows if row[8] is not None))
        _, path, split, image, label, class_name, public, arrived, _ = rows[0]
        subjects = known.setdefault(subjects, subjects)
        yield row_id, Sample(path, split, image, label, class_name, subjects, bool(public), arrived)


def iter_samples(
    session: Session, version: Version, split: str | None = None, *, without_erased: bool = False
) -> Iterator[Sample]:
    """Yield the samples of a version, sorted by path.

    Args:
        session: A session on the catalog.
        version: The version.
        split: Only this split.
        without_erased: Leave out samples that were erased later.
    """
    condition = in_version(version.dataset_id, version.number)
    if split is not None:
        condition = and_(condition, SampleRow.split == split)
    if without_erased:
        condition = and_(condition, not_erased())
    for _, sample in iter_rows(session, condition):
        yield sample


def load_samples(
    session: Session, version: Version, split: str | None = None, *, without_erased: bool = False
) -> list[Sample]:
    """Return ``iter_samples`` as a list."""
    return list(iter_samples(session, version, split, without_erased=without_erased))


def load_erased(session: Session, version: Version) -> list[tuple[Sample, str]]:
    """Return the samples of a version that were erased later, each with the id of the request."""
    condition = and_(in_version(version.dataset_id, version.number), SampleRow.removal == "erased")
    query = select(SampleRow.id, SampleRow.request_id).where(condition)
    requests = {row[0]: row[1] for row in session.execute(query)}
    return [(sample, requests[row_id] or "") for row_id, sample in iter_rows(session, condition)]


def count_retained(session: Session, version: Version) -> int:
    """Return the number of samples of a version that were not erased."""
    condition = and_(in_version(version.dataset_id, version.number), not_erased())
    return session.scalar(select(func.count()).select_from(SampleRow).where(condition)) or 0


def subject_risks(session: Session, version: Version) -> dict[str, float]:
    """Return the risk of withdrawal (0 to 1) of each subject of a version that has one."""
    query = (
        select(SubjectRow.name, SubjectRow.risk)
        .join(SampleSubjectRow, SampleSubjectRow.subject_id == SubjectRow.id)
        .join(SampleRow, SampleRow.id == SampleSubjectRow.sample_id)
        .where(SubjectRow.risk.is_not(None), in_version(version.dataset_id, version.number))
        .distinct()
    )
    return {name: risk for name, risk in session.execute(query) if risk is not None}


def find_subject(session: Session, dataset: str | None, subject: str) -> list[str]:
    """Return the names of the datasets in which a subject has samples that were not erased."""
    query = (
        select(DatasetRow.name)
        .join(SubjectRow, SubjectRow.dataset_id == DatasetRow.id)
        .join(SampleSubjectRow, SampleSubjectRow.subject_id == SubjectRow.id)
        .join(SampleRow, SampleRow.id == SampleSubjectRow.sample_id)
        .where(SubjectRow.name == subject, not_erased())
        .order_by(DatasetRow.name)
        .distinct()
    )
    if dataset is not None:
        query = query.where(DatasetRow.name == dataset)
    return list(session.scalars(query))


def summarize(session: Session, version: Version) -> dict[str, Any]:
    """Return counts of a version: samples by split and class, public samples, samples erased later."""
    condition = in_version(version.dataset_id, version.number)
    splits = select(SampleRow.split, func.count()).where(condition).group_by(SampleRow.split)
    classes = (
        select(SampleRow.class_name, func.count())
        .where(condition, SampleRow.class_name.is_not(None))
        .group_by(SampleRow.class_name)
    )
    public = session.scalar(select(func.count()).where(condition, SampleRow.public)) or 0
    erased = session.scalar(select(func.count()).where(condition, SampleRow.removal == "erased")) or 0
    forgotten = select(func.count()).where(
        OpaqueLeaf.dataset_id == version.dataset_id,
        OpaqueLeaf.arrived <= version.number,
        OpaqueLeaf.removed > version.number,
    )
    return {
        "splits": dict(session.execute(splits).all()),
        "classes": dict(session.execute(classes).all()),
        "public": public,
        "erased_since": erased + (session.scalar(forgotten) or 0),
    }
