# SPDX-License-Identifier: Apache-2.0
"""The user's own files of what a request erased: which are still there, and how they are deleted.

Searched are all folders in which the dataset lies or once lay. Beside a picture its label and its decoded
copy (``x.npy``, as Ultralytics writes with ``cache=disk``) count as originals, too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from expunge.catalog import models as catalog
from expunge.catalog.roots import roots_of
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.digest import file_digest
from expunge.data.yolo import label_file

if TYPE_CHECKING:
    from expunge.workspace import Workspace

DECODED_SUFFIX = ".npy"


@dataclass(frozen=True)
class ErasedFile:
    """A picture that a request erased.

    Attributes:
        path: Relative to the dataset's folder.
        image_digest: SHA-256 of its bytes, hex.
        label_digest: SHA-256 of its label file, hex; empty if it had none.
        neighbours: Retained pictures of the same stem, each with its label digest; a label or decoded copy
            belongs to these as well.
    """

    path: str
    image_digest: str
    label_digest: str
    neighbours: Mapping[str, str]

    def files(self, root: Path) -> Iterator[Path]:
        """Yield what may be there of it below one folder of the dataset."""
        picture = root / self.path
        if self.path not in self.neighbours or _has_digest(picture, self.image_digest):
            yield picture
        label = label_file(root, self.path)
        if self.label_digest and not self._is_shared(root, label):
            yield label
        if not self.neighbours:
            yield picture.with_suffix(DECODED_SUFFIX)

    def _is_shared(self, root: Path, label: Path) -> bool:
        """Whether a label file is one of a retained picture, by its name and its bytes."""
        if label not in {label_file(root, other) for other in self.neighbours}:
            return False
        return self.label_digest in self.neighbours.values() or not _has_digest(label, self.label_digest)


def originals(workspace: Workspace, request_id: str) -> Iterator[Path]:
    """Yield the files of a request's samples that are still in one of the dataset's folders.

    Not those that a retained sample has now: a new image under an old name, a label that two images share.
    """
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        if row is None:
            return
        roots = roots_of(session, row.dataset_id)
        erased = erased_files(session, row)
    files = {file for one in erased for root in roots for file in one.files(root)}
    yield from (file for file in sorted(files) if file.is_symlink() or file.is_file())


def awaited_originals(workspace: Workspace) -> frozenset[str]:
    """Return the real paths of all originals that a request waits for."""
    with workspace.session() as session:
        requests = session.scalars(
            select(SampleRow.request_id).where(SampleRow.removal == "erased").distinct()
        )
        waiting = [request for request in requests if request]
    return frozenset(os.path.realpath(file) for request in waiting for file in originals(workspace, request))


def unknown_roots(workspace: Workspace, request_id: str) -> int:
    """Count the dataset's folders that are not reachable: whether originals are in them is unknown."""
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        return sum(not _readable(root) for root in roots_of(session, row.dataset_id))


def datasets_with_same_bytes(workspace: Workspace, request_id: str) -> list[str]:
    """Return the names of other datasets that retain a picture with the bytes of one that was erased."""
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        erased = select(SampleRow.image_digest).where(
            SampleRow.request_id == request_id, SampleRow.removal == "erased"
        )
        query = (
            select(DatasetRow.name)
            .join(SampleRow, SampleRow.dataset_id == DatasetRow.id)
            .where(
                DatasetRow.id != row.dataset_id,
                SampleRow.removed.is_(None),
                SampleRow.image_digest.in_(erased),
            )
            .distinct()
            .order_by(DatasetRow.name)
        )
        return list(session.scalars(query))


def delete_originals(workspace: Workspace, request_id: str) -> int:
    """Delete a request's originals from the dataset's folders; returns how many files could be deleted.

    Of a link to a file the link itself; nothing that lies elsewhere, behind a link to a folder.
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        roots = [root.resolve() for root in roots_of(session, row.dataset_id)]
    count = 0
    for file in list(originals(workspace, request_id)):
        if _is_below(file.parent.resolve(), roots):
            with contextlib.suppress(OSError):  # what stays is counted as left
                file.unlink()
                count += 1
    return count


def erased_files(session: Session, row: RequestRow) -> list[ErasedFile]:
    """Return the pictures that a request erased, as far as the catalog still knows them."""
    query = select(SampleRow.path, SampleRow.image_digest, SampleRow.label_digest).where(
        SampleRow.request_id == row.id, SampleRow.removal == "erased"
    )
    return [
        ErasedFile(path, image, label, _retained_beside(session, row.dataset_id, path))
        for path, image, label in session.execute(query).all()
    ]


def _retained_beside(session: Session, dataset_id: int, path: str) -> dict[str, str]:
    stem = path.rpartition(".")[0]
    query = select(SampleRow.path, SampleRow.label_digest).where(
        SampleRow.dataset_id == dataset_id,
        SampleRow.removed.is_(None),
        SampleRow.path.between(f"{stem}.", f"{stem}/"),
    )
    return dict(session.execute(query).tuples().all())


def _has_digest(file: Path, digest: str) -> bool:
    try:
        return file.is_file() and file_digest(file) == digest
    except OSError:
        return False


def _readable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)


def _is_below(folder: Path, roots: Collection[Path]) -> bool:
    return any(folder.is_relative_to(root) for root in roots)
