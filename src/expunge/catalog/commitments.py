# SPDX-License-Identifier: Apache-2.0
"""Commitments to sample rows. Each has its own random salt, so that guesses cannot be tested without it."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator
from typing import cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.orm import Session

from expunge.catalog.tables import SampleRow
from expunge.data.manifest import encoded_row
from expunge.data.types import Sample

SALT_BYTES = 32
BATCH = 10_000


def commitment(salt: bytes, sample: Sample) -> bytes:
    """Return HMAC-SHA256(salt, row), 32 bytes. The row is encoded as JSON, as in a manifest digest."""
    return hmac.digest(salt, encoded_row(sample), "sha256")


def fresh_salts(count: int) -> Iterator[bytes]:
    """Yield ``count`` salts of 32 bytes from the system's random generator."""
    block = os.urandom(count * SALT_BYTES)
    return (block[i : i + SALT_BYTES] for i in range(0, len(block), SALT_BYTES))


def ensure_salts(session: Session, dataset_id: int) -> None:
    """Add salts to the rows of a dataset that were written before salts existed."""
    table = cast(Table, SampleRow.__table__)
    query = select(SampleRow.id).where(SampleRow.dataset_id == dataset_id, SampleRow.salt.is_(None))
    set_salt = update(table).where(table.c.id == bindparam("row")).values(salt=bindparam("fresh"))
    while ids := session.scalars(query.limit(BATCH)).all():
        session.execute(
            set_salt,
            [{"row": row, "fresh": salt} for row, salt in zip(ids, fresh_salts(len(ids)), strict=True)],
        )


def salts_of(session: Session, ids: Iterable[int]) -> dict[int, bytes]:
    """Return the salts of sample rows by row id; rows without a salt are left out."""
    found: dict[int, bytes] = {}
    pending = list(ids)
    for start in range(0, len(pending), 500):
        query = select(SampleRow.id, SampleRow.salt).where(SampleRow.id.in_(pending[start : start + 500]))
        found.update({row: salt for row, salt in session.execute(query) if salt is not None})
    return found
