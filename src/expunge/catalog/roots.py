# SPDX-License-Identifier: Apache-2.0
"""The folders in which a dataset lies or once lay: a moved dataset may have left originals behind."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog.tables import DatasetRootRow, DatasetRow


def move_root(session: Session, dataset: DatasetRow, root: Path) -> None:
    """Set the present folder of a dataset; every earlier one stays on record."""
    dataset.root = str(root)
    session.flush()
    known = select(DatasetRootRow.id).where(
        DatasetRootRow.dataset_id == dataset.id, DatasetRootRow.path == dataset.root
    )
    if session.scalar(known) is None:
        session.add(DatasetRootRow(dataset_id=dataset.id, path=dataset.root))
        session.flush()


def roots_of(session: Session, dataset_id: int) -> list[Path]:
    """Return the folders of a dataset: the present one, then the earlier ones, oldest first."""
    present = session.get_one(DatasetRow, dataset_id).root
    query = select(DatasetRootRow.path).where(DatasetRootRow.dataset_id == dataset_id)
    earlier = session.scalars(query.order_by(DatasetRootRow.id)).all()
    return [Path(path) for path in dict.fromkeys([present, *earlier])]


def all_roots(session: Session) -> list[tuple[str, Path]]:
    """Return the folders of all datasets, each with the dataset's name."""
    query = select(DatasetRow.name, DatasetRow.id).order_by(DatasetRow.name)
    return [(name, root) for name, number in session.execute(query) for root in roots_of(session, number)]
