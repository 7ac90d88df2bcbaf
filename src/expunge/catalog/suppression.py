# SPDX-License-Identifier: Apache-2.0
"""The suppression list: keyed digests of erased subjects, paths and images, which may not be added again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.orm import Session

from expunge.catalog.tables import DatasetRow, SampleRow, SampleSubjectRow, SubjectRow, SuppressionRow
from expunge.catalog.versions import not_erased
from expunge.data.types import Sample
from expunge.data.unicode_names import forms_of
from expunge.storage.keyed_digests import suppression_mac

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
    """Add subjects, paths and image digests to the suppression list.

    Args:
        session: A session on the catalog, for writing.
        key: The workspace's secret for the list.
        dataset: Name of the dataset.
        subjects: Ids of subjects.
        paths: Paths of samples.
        images: SHA-256 (hex) of image files.
        request_id: The request that erased them.
    """
    table = cast(Table, SuppressionRow.__table__)
    rows: list[dict[str, Any]] = [
        {"kind": kind, "mac": suppression_mac(key, kind, dataset, value), "request_id": request_id}
        for kind, values in (("subject", subjects), ("sample", paths), ("image", images))
        for value in sorted(set(values))
    ]
    if rows:
        session.execute(insert(table), rows)


def suppress_decoded(session: Session, key: bytes, digests: Iterable[str], request_id: str) -> None:
    """Add digests of the decoded pixels of erased images to the suppression list."""
    rows: list[dict[str, Any]] = [
        {"kind": "decoded", "mac": suppression_mac(key, "decoded", "", digest), "request_id": request_id}
        for digest in sorted(set(digests))
    ]
    if rows:
        session.execute(insert(cast(Table, SuppressionRow.__table__)), rows)


def suppressing_requests(session: Session) -> dict[str, str]:
    """Return, for each keyed digest on the list, the request that added it (the first, if several)."""
    query = select(SuppressionRow.mac, SuppressionRow.request_id).order_by(SuppressionRow.id.desc())
    return dict(session.execute(query).tuples().all())


def suppressed_by(session: Session, key: bytes, kind: str, dataset: str, value: str) -> str | None:
    """Return the id of the request that erased a value from a dataset, or None."""
    macs = [suppression_mac(key, kind, dataset, form) for form in forms_of(value)]
    query = select(SuppressionRow.request_id).where(SuppressionRow.mac.in_(macs)).order_by(SuppressionRow.id)
    return session.scalars(query).first()


class SuppressionList:
    """The suppression list in memory, for testing many samples of one dataset.

    Subject ids apply to the whole workspace: a subject erased from one dataset is suppressed in all others,
    except in those that hold samples of the subject that were never erased. Paths apply to one dataset.

    Args:
        session: A session on the catalog.
        key: The workspace's secret for the list.
        dataset: Name of the dataset to which the samples belong.
    """

    def __init__(self, session: Session, key: bytes, dataset: str) -> None:
        self._session, self._key, self._dataset = session, key, dataset
        self._macs = frozenset(session.scalars(select(SuppressionRow.mac)))
        names = session.scalars(select(DatasetRow.name).where(DatasetRow.name != dataset)).all()
        self._others = tuple(names) if self._macs else ()
        self._subjects: dict[str, bool] = {}
        self.from_others: set[str] = set()

    def matches(self, sample: Sample) -> bool:
        """Return whether a sample was erased, by its path, its bytes, or one of its subjects."""
        if not self._macs:
            return False
        if any(self._is_suppressed(subject) for subject in sample.subjects):
            return True
        return self._holds("sample", sample.path) or self._holds("image", sample.image_digest)

    def allow(self, samples: Iterable[Sample]) -> None:
        """Remove the samples and their subjects from the list, after new consent."""
        macs: set[str] = set()
        for sample in samples:
            for subject in sample.subjects:
                for dataset in (self._dataset, *self._others):
                    macs.update(self._macs_of("subject", subject, dataset))
            macs.update(self._macs_of("sample", sample.path, self._dataset))
            macs.update(self._macs_of("image", sample.image_digest, self._dataset))
        listed = sorted(macs & self._macs)
        for start in range(0, len(listed), CHUNK):
            self._session.execute(
                delete(SuppressionRow).where(SuppressionRow.mac.in_(listed[start : start + CHUNK]))
            )
        self._macs -= macs

    def _is_suppressed(self, subject: str) -> bool:
        suppressed = self._subjects.get(subject)
        if suppressed is None:
            suppressed = self._holds("subject", subject)
            if not suppressed and any(self._holds("subject", subject, other) for other in self._others):
                suppressed = not self._is_present(subject)
                self.from_others |= {subject} if suppressed else set()
            self._subjects[subject] = suppressed
        return suppressed

    def _is_present(self, subject: str) -> bool:
        """Return whether the dataset holds samples of a subject that were not erased."""
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
        return not self._macs.isdisjoint(self._macs_of(kind, value, dataset or self._dataset))

    def _macs_of(self, kind: str, value: str, dataset: str) -> list[str]:
        return [suppression_mac(self._key, kind, dataset, form) for form in forms_of(value)]
