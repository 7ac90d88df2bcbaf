# SPDX-License-Identifier: Apache-2.0
"""Decisions of users about near-duplicate pairs: same person or different people."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from expunge.catalog.bulk import in_chunks
from expunge.catalog.derived_tables import DuplicateDecisionRow
from expunge.catalog.tables import SampleRow
from expunge.catalog.versions import in_version, not_erased
from expunge.data.types import Version

SAME, DIFFERENT = "same", "different"
DECISIONS = (SAME, DIFFERENT)


def record_decisions(session: Session, version: Version, pairs: Iterable[tuple[str, str, str]]) -> int:
    """Record decisions about pairs of samples, replacing earlier decisions about the same pairs.

    Args:
        session: A session on the catalog, for writing.
        version: The dataset version that holds the samples.
        pairs: Tuples (path, path, decision); the decision is one of ``DECISIONS``.

    Returns:
        The number of decisions recorded.

    Raises:
        KeyError: If a path is not in the version. Its argument is the path.
    """
    given = list(pairs)
    ids = _ids(session, version, {path for a, b, _ in given for path in (a, b)})
    for a, b, decision in given:
        first, second = sorted((ids[a], ids[b]))
        row = session.scalar(
            select(DuplicateDecisionRow).where(
                DuplicateDecisionRow.first == first, DuplicateDecisionRow.second == second
            )
        )
        if row is None:
            row = DuplicateDecisionRow(dataset_id=version.dataset_id, first=first, second=second)
            session.add(row)
        row.decision = decision
        session.flush()
    return len(given)


def decisions(session: Session, version: Version) -> dict[frozenset[str], str]:
    """Return the decisions about pairs whose samples are both in a version, by the two paths."""
    query = select(DuplicateDecisionRow).where(DuplicateDecisionRow.dataset_id == version.dataset_id)
    rows = session.scalars(query).all()
    paths = _paths(session, version, {i for row in rows for i in (row.first, row.second)})
    return {
        frozenset((paths[row.first], paths[row.second])): row.decision
        for row in rows
        if row.first in paths and row.second in paths
    }


def same_samples(session: Session, version: Version, ids: Iterable[int]) -> set[str]:
    """Return the paths of samples that were decided to be the same as the given ones, transitively.

    Args:
        session: A session on the catalog.
        version: The dataset version. Erased samples are left out.
        ids: Row ids of the given samples.
    """
    reached, new = set(ids), set(ids)
    while new:
        found: set[int] = set()
        for chunk in in_chunks(new):
            query = select(DuplicateDecisionRow.first, DuplicateDecisionRow.second).where(
                DuplicateDecisionRow.dataset_id == version.dataset_id,
                DuplicateDecisionRow.decision == SAME,
                or_(DuplicateDecisionRow.first.in_(chunk), DuplicateDecisionRow.second.in_(chunk)),
            )
            found.update(i for pair in session.execute(query) for i in pair)
        new = found - reached
        reached |= new
    return set(_paths(session, version, reached - set(ids)).values())


def forget_decisions(session: Session) -> int:
    """Delete decisions about samples that were erased or are no longer in the catalog; return the number."""
    rows = session.scalars(select(DuplicateDecisionRow)).all()
    sample_ids = {i for row in rows for i in (row.first, row.second)}
    present: set[int] = set()
    for chunk in in_chunks(sample_ids):
        present.update(session.scalars(select(SampleRow.id).where(SampleRow.id.in_(chunk), not_erased())))
    outdated = [row.id for row in rows if not {row.first, row.second} <= present]
    for chunk in in_chunks(outdated):
        session.execute(delete(DuplicateDecisionRow).where(DuplicateDecisionRow.id.in_(chunk)))
    return len(outdated)


def _ids(session: Session, version: Version, paths: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    here = in_version(version.dataset_id, version.number)
    for chunk in in_chunks(paths):
        query = select(SampleRow.path, SampleRow.id).where(here, not_erased(), SampleRow.path.in_(chunk))
        found |= dict(session.execute(query).all())
    for path in sorted(paths - found.keys()):
        raise KeyError(path)
    return found


def _paths(session: Session, version: Version, ids: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    here = in_version(version.dataset_id, version.number)
    for chunk in in_chunks(ids):
        query = select(SampleRow.id, SampleRow.path).where(here, not_erased(), SampleRow.id.in_(chunk))
        found |= dict(session.execute(query).all())
    return found
