# SPDX-License-Identifier: Apache-2.0
"""Salted Merkle roots of dataset versions and of the rows that an erasure removed.

The tree is that of RFC 9162 over the rows' commitments (32 bytes each), sorted as bytes. The set of leaves
therefore determines the root, and a leaf's position reveals nothing about its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog.commitments import BATCH, commitment, ensure_salts, salts_of
from expunge.catalog.tables import OpaqueLeaf, SampleRow, VersionRow
from expunge.catalog.versions import in_version, iter_rows
from expunge.errors import InputError
from expunge.evidence.merkle import tree_hash

ALGORITHM = "RFC 9162 tree over sorted HMAC-SHA256(salt, row), one random 256-bit salt per sample"


@dataclass(frozen=True)
class Tree:
    """The Merkle root of commitments (hex) and their number."""

    root: str
    leaves: int

    def as_json(self) -> dict[str, Any]:
        """Return the tree as in a certificate."""
        return {"root": self.root, "leaves": self.leaves}


def tree_of(commitments: list[bytes]) -> Tree:
    """Return the tree of commitments in any order."""
    return Tree(tree_hash(sorted(commitments)).hex(), len(commitments))


def leaves(session: Session, dataset_id: int, number: int) -> list[bytes]:
    """Return the commitments of all rows of a version, including rows that the catalog has forgotten."""
    found = list(_retained(session, dataset_id, number))
    query = select(OpaqueLeaf.leaf).where(
        OpaqueLeaf.dataset_id == dataset_id, OpaqueLeaf.arrived <= number, OpaqueLeaf.removed > number
    )
    return [*found, *session.scalars(query)]


def root_of(session: Session, dataset_id: int, number: int, plus: Sequence[bytes] = ()) -> Tree:
    """Return a version's tree; its root is stored in the catalog, since a version never changes.

    Args:
        session: A session that may write.
        dataset_id: The dataset's row id.
        number: The version's number.
        plus: The leaves that the parent version has in addition, if that is the only difference; the root of
            the parent is then computed from the same read of the rows.
    """
    row = _version(session, dataset_id, number)
    ensure_salts(session, dataset_id)
    if row.root is None:
        found = leaves(session, dataset_id, number)
        row.root = tree_of(found).root
        parent = _version(session, dataset_id, row.parent) if row.parent and plus else None
        if parent is not None and parent.root is None:
            parent.root = tree_of([*found, *plus]).root
        session.flush()
    return Tree(row.root, row.samples)


def removed_leaves(session: Session, dataset_id: int, request_id: str, number: int) -> list[bytes]:
    """Return the commitments of the rows that a request removed from a version."""
    erased = (
        in_version(dataset_id, number)
        & (SampleRow.request_id == request_id)
        & (SampleRow.removal == "erased")
    )
    rows = dict(iter_rows(session, erased))
    salts = salts_of(session, rows)
    query = select(OpaqueLeaf.leaf).where(
        OpaqueLeaf.request_id == request_id, OpaqueLeaf.arrived <= number, OpaqueLeaf.removed > number
    )
    known = (commitment(salts[row], sample) for row, sample in rows.items() if row in salts)
    return [*known, *session.scalars(query)]


def parent_of(session: Session, dataset_id: int, number: int) -> int:
    """Return the number of a version's parent; its own number if it has none."""
    return _version(session, dataset_id, number).parent or number


def _version(session: Session, dataset_id: int, number: int) -> VersionRow:
    query = select(VersionRow).where(VersionRow.dataset_id == dataset_id, VersionRow.number == number)
    return session.scalars(query).one()


def _retained(session: Session, dataset_id: int, number: int) -> Iterator[bytes]:
    """Yield the commitments of rows in the catalog, streamed by two queries to keep memory small."""
    here = in_version(dataset_id, number)
    query = (
        select(SampleRow.id, SampleRow.salt)
        .where(here)
        .order_by(SampleRow.path, SampleRow.id)
        .execution_options(yield_per=BATCH)
    )
    for (row, sample), (same, salt) in zip(iter_rows(session, here), session.execute(query), strict=True):
        if row != same or salt is None:
            raise InputError("A row of the catalog has no salt.", "Its commitment cannot be computed.", "")
        yield commitment(salt, sample)
