# SPDX-License-Identifier: Apache-2.0
"""Keeps what was erased from coming back: keyed digests of subjects, paths and image bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.orm import Session

from expunge.catalog.macs import suppression_mac
from expunge.catalog.tables import SuppressionRow
from expunge.data.types import Sample

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
    """Return the id of the request that erased a value, or None."""
    mac = suppression_mac(key, kind, dataset, value)
    query = select(SuppressionRow.request_id).where(SuppressionRow.mac == mac).order_by(SuppressionRow.id)
    return session.scalars(query).first()


class SuppressionList:
    """The whole list in memory, to test many samples against."""

    def __init__(self, session: Session, key: bytes, dataset: str) -> None:
        self._session, self._key, self._dataset = session, key, dataset
        self._macs = frozenset(session.scalars(select(SuppressionRow.mac)))
        self._subjects: dict[str, bool] = {}

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
            macs.update(self._mac("subject", subject) for subject in sample.subjects)
            macs.update((self._mac("sample", sample.path), self._mac("image", sample.image_digest)))
        listed = sorted(macs & self._macs)
        for start in range(0, len(listed), CHUNK):
            self._session.execute(
                delete(SuppressionRow).where(SuppressionRow.mac.in_(listed[start : start + CHUNK]))
            )
        self._macs -= macs

    def _subject(self, subject: str) -> bool:
        known = self._subjects.get(subject)
        if known is None:
            known = self._subjects[subject] = self._holds("subject", subject)
        return known

    def _holds(self, kind: str, value: str) -> bool:
        return self._mac(kind, value) in self._macs

    def _mac(self, kind: str, value: str) -> str:
        return suppression_mac(self._key, kind, self._dataset, value)
