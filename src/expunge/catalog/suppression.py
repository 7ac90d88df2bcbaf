# SPDX-License-Identifier: Apache-2.0
"""Keeps what was erased from coming back: keyed digests of subjects, paths and image bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.orm import Session

from expunge.catalog.macs import suppression_mac
from expunge.catalog.tables import DatasetRow, SampleRow, SampleSubjectRow, SubjectRow, SuppressionRow
from expunge.catalog.versions import not_erased
from expunge.data.types import Sample
from expunge.data.unicode_names import forms_of

CHUNK = 500


def suppress(
    session: Session,
    key: bytes,
    dataset: str,
    *,
    subjects: Iterable[str],
    paths: Iterable[str],
    images: Iterable[str],
    request_id: str,
) -> None:
    """Put subjects, paths and image digests on the list."""
    table = cast(Table, SuppressionRow.__table__)
    rows: list[dict[str, Any]] = [
        {"kind": kind, "mac": suppression_mac(key, kind, dataset, value), "request_id": request_id}
        for kind, values in (("subject", subjects), ("sample", paths), ("image", images))
        for value in sorted(set(values))
    ]
    if rows:
        session.execute(insert(table), rows)


def suppress_decoded(session: Session, key: bytes, digests: Iterable[str], request_id: str) -> None:
    """Put the pixel digests of erased pictures on the list."""
    rows: list[dict[str, Any]] = [
        {"kind": "decoded", "mac": suppression_mac(key, "decoded", "", digest), "request_id": request_id}
        for digest in sorted(set(digests))
    ]
    if rows:
        session.execute(insert(cast(Table, SuppressionRow.__table__)), rows)


def erased_by(session: Session) -> dict[str, str]:
    """Return the whole list: for each keyed digest the request that put it there (the first, if several)."""
    query = select(SuppressionRow.mac, SuppressionRow.request_id).order_by(SuppressionRow.id.desc())
    return dict(session.execute(query).tuples().all())


def suppressed_by(session: Session, key: bytes, kind: str, dataset: str, value: str) -> str | None:
    """Return the id of the request that erased a value from a dataset, or None."""
    macs = [suppression_mac(key, kind, dataset, form) for form in forms_of(value)]
    query = select(SuppressionRow.request_id).where(SuppressionRow.mac.in_(macs)).order_by(SuppressionRow.id)
    return session.scalars(query).first()


class SuppressionList:
    """The whole list in memory, to test many samples against.

    A subject's id counts in the whole workspace: who was erased from one dataset is recognised in another,
    unless that one holds samples of the subject that were never erased. A path counts in its own dataset.
    """

    def __init__(self, session: Session, key: bytes, dataset: str) -> None:
        self._session, self._key, self._dataset = session, key, dataset
        self._macs = frozenset(session.scalars(select(SuppressionRow.mac)))
        names = session.scalars(select(DatasetRow.name).where(DatasetRow.name != dataset)).all()
        self._others = tuple(names) if self._macs else ()
        self._subjects: dict[str, bool] = {}
        self.from_others: set[str] = set()

    def matches(self, sample: Sample) -> bool:
        """Say whether a sample was erased: its path, its bytes, or one of its subjects."""
        if not self._macs:
            return False
        if any(self._subject(subject) for subject in sample.subjects):
            return True
        return self._holds("sample", sample.path) or self._holds("image", sample.image_digest)

    def allow(self, samples: Iterable[Sample]) -> None:
        """Take the samples and their subjects off the list: they gave new consent."""
        macs: set[str] = set()
        for sample in samples:
            for subject in sample.subjects:
                for dataset in (self._dataset, *self._others):
                    macs.update(self._all("subject", subject, dataset))
            macs.update(self._all("sample", sample.path, self._dataset))
            macs.update(self._all("image", sample.image_digest, self._dataset))
        listed = sorted(macs & self._macs)
        for start in range(0, len(listed), CHUNK):
            self._session.execute(
                delete(SuppressionRow).where(SuppressionRow.mac.in_(listed[start : start + CHUNK]))
            )
        self._macs -= macs

    def _subject(self, subject: str) -> bool:
        known = self._subjects.get(subject)
        if known is None:
            known = self._holds("subject", subject)
            if not known and any(self._holds("subject", subject, other) for other in self._others):
                known = not self._is_here(subject)
                self.from_others |= {subject} if known else set()
            self._subjects[subject] = known
        return known

    def _is_here(self, subject: str) -> bool:
        """Say whether the dataset holds samples of a subject, none of which was erased."""
        query = (
            select(SampleRow.id)
            .join(SampleSubjectRow, SampleSubjectRow.sample_id == SampleRow.id)
            .join(SubjectRow, SubjectRow.id == SampleSubjectRow.subject_id)
            .join(DatasetRow, DatasetRow.id == SubjectRow.dataset_id)
            .where(DatasetRow.name == self._dataset, SubjectRow.name == subject, not_erased())
            .limit(1)
        )
        return self._session.scalar(query) is not None

    def _holds(self, kind: str, value: str, dataset: str | None = None) -> bool:
        return not self._macs.isdisjoint(self._all(kind, value, dataset or self._dataset))

    def _all(self, kind: str, value: str, dataset: str) -> list[str]:
        return [suppression_mac(self._key, kind, dataset, form) for form in forms_of(value)]
