# SPDX-License-Identifier: Apache-2.0
"""The user's own files of what a request erased: which are still there, and how they are deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from expunge.catalog import models as catalog
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.yolo import label_file

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def originals(workspace: Workspace, request_id: str) -> Iterator[Path]:
    """Yield the files of a request's samples that are still in the user's own folder.

    Not those that a retained sample has now: a new image under an old name, a label that two images share.
    """
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        if row is None:
            return
        root = Path(session.get_one(DatasetRow, row.dataset_id).root)
        erased = select(SampleRow.path, SampleRow.label_digest).where(SampleRow.request_id == request_id)
        files: set[Path] = set()
        for path, label_digest in session.execute(erased):
            stem = path.rpartition(".")[0]
            beside = select(SampleRow.path).where(
                SampleRow.dataset_id == row.dataset_id,
                SampleRow.removed.is_(None),
                SampleRow.path.between(f"{stem}.", f"{stem}/"),
            )
            retained, label = set(session.scalars(beside)), label_file(root, path)
            if path not in retained:
                files.add(root / path)
            if label_digest and label not in {label_file(root, other) for other in retained}:
                files.add(label)
    yield from (file for file in sorted(files) if file.is_symlink() or file.is_file())


def delete_originals(workspace: Workspace, request_id: str) -> int:
    """Delete a request's images and labels from the user's folder; returns how many could be deleted.

    Of a link to a file the link itself; nothing that lies elsewhere, behind a link to a folder.
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        root = Path(session.get_one(DatasetRow, row.dataset_id).root).resolve()
    count = 0
    for file in list(originals(workspace, request_id)):
        if file.parent.resolve().is_relative_to(root):
            with contextlib.suppress(OSError):  # what stays is counted as left
                file.unlink()
                count += 1
    return count
