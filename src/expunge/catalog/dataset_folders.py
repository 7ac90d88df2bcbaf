# SPDX-License-Identifier: Apache-2.0
"""Present and former folders of datasets. A moved dataset may have left originals in a former folder."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog.tables import DatasetRootRow, DatasetRow


def set_folder(session: Session, dataset: DatasetRow, root: Path) -> None:
    """Set the present folder of a dataset. Former folders stay on record."""
    dataset.root = str(root)
    session.flush()
    known = select(DatasetRootRow.id).where(
        DatasetRootRow.dataset_id == dataset.id, DatasetRootRow.path == dataset.root
    )
    if session.scalar(known) is None:
        session.add(DatasetRootRow(dataset_id=dataset.id, path=dataset.root))
        session.flush()


def folders_of(session: Session, dataset_id: int) -> list[Path]:
    """Return the folders of a dataset: the present one, then the former ones, oldest first."""
    present = session.get_one(DatasetRow, dataset_id).root
    query = select(DatasetRootRow.path).where(DatasetRootRow.dataset_id == dataset_id)
    former = session.scalars(query.order_by(DatasetRootRow.id)).all()
    return [Path(path) for path in dict.fromkeys([present, *former])]


def all_folders(session: Session) -> list[tuple[str, Path]]:
    """Return the dataset's name and the folder, for all folders of all datasets."""
    query = select(DatasetRow.name, DatasetRow.id).order_by(DatasetRow.name)
    return [
        (name, root)
        for name, dataset_id in session.execute(query)
        for root in folders_of(session, dataset_id)
    ]
