# SPDX-License-Identifier: Apache-2.0
"""Finds and deletes originals: the user's own files of erased samples.

All present and earlier folders of the dataset are searched. The label of an image and its decoded copy
(``x.npy``, which Ultralytics writes with ``cache=disk``) count as originals too.
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

from expunge.catalog import model_store
from expunge.catalog.dataset_folders import folders_of
from expunge.catalog.tables import DatasetRow, RequestRow, SampleRow
from expunge.data.yolo import label_file
from expunge.storage.digest import file_digest

if TYPE_CHECKING:
    from expunge.workspace import Workspace

DECODED_SUFFIX = ".npy"


@dataclass(frozen=True)
class ErasedFile:
    """An erased image.

    Attributes:
        path: Path relative to the dataset root.
        image_digest: SHA-256 of its bytes, hex.
        label_digest: SHA-256 of its label file, hex; empty if it had none.
        neighbours: Paths of retained images with the same stem, each with its label digest. They share the
            label file and the decoded copy.
    """

    path: str
    image_digest: str
    label_digest: str
    neighbours: Mapping[str, str]

    def files(self, root: Path) -> Iterator[Path]:
        """Yield the files that may exist below one folder of the dataset."""
        image = root / self.path
        if self.path not in self.neighbours or _has_digest(image, self.image_digest):
            yield image
        label = label_file(root, self.path)
        if self.label_digest and not self._is_shared(root, label):
            yield label
        if not self.neighbours:
            yield image.with_suffix(DECODED_SUFFIX)

    def _is_shared(self, root: Path, label: Path) -> bool:
        """Return whether a label file belongs to a retained image, by its name and its bytes."""
        if label not in {label_file(root, other) for other in self.neighbours}:
            return False
        return self.label_digest in self.neighbours.values() or not _has_digest(label, self.label_digest)


def find_originals(workspace: Workspace, request_id: str) -> Iterator[Path]:
    """Yield the files of a request's erased samples that still exist in a folder of the dataset.

    Files that now belong to a retained sample are left out: a new image under an old name, a label shared by
    two images.
    """
    with workspace.session() as session:
        row = session.get(RequestRow, request_id)
        if row is None:
            return
        roots = folders_of(session, row.dataset_id)
        erased = erased_files(session, row)
    files = {file for image in erased for root in roots for file in image.files(root)}
    yield from (file for file in sorted(files) if file.is_symlink() or file.is_file())


def awaited_originals(workspace: Workspace) -> frozenset[str]:
    """Return the real paths of all originals of requests that are not closed."""
    with workspace.session() as session:
        requests = session.scalars(
            select(SampleRow.request_id).where(SampleRow.removal == "erased").distinct()
        )
        request_ids = [request_id for request_id in requests if request_id]
    return frozenset(os.path.realpath(file) for i in request_ids for file in find_originals(workspace, i))


def unknown_roots(workspace: Workspace, request_id: str) -> int:
    """Return the number of unreachable folders of the dataset, which may contain originals."""
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
        return sum(not _readable(root) for root in folders_of(session, row.dataset_id))


def datasets_with_same_bytes(workspace: Workspace, request_id: str) -> list[str]:
    """Return the names of other datasets that retain an image with the bytes of an erased one."""
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
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
    """Delete a request's originals from the dataset's folders; return the number of deleted files.

    Of a link to a file, the link is deleted. Files outside the dataset's folders, behind a link to a folder,
    are not deleted.
    """
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
        roots = [root.resolve() for root in folders_of(session, row.dataset_id)]
    count = 0
    for file in list(find_originals(workspace, request_id)):
        if _is_below(file.parent.resolve(), roots):
            with contextlib.suppress(OSError):  # a file that stays is still counted by `originals`
                file.unlink()
                count += 1
    return count


def erased_files(session: Session, row: RequestRow) -> list[ErasedFile]:
    """Return the images that a request erased and that the catalog has not forgotten."""
    query = select(SampleRow.path, SampleRow.image_digest, SampleRow.label_digest).where(
        SampleRow.request_id == row.id, SampleRow.removal == "erased"
    )
    return [
        ErasedFile(path, image, label, _retained_neighbours(session, row.dataset_id, path))
        for path, image, label in session.execute(query).all()
    ]


def _retained_neighbours(session: Session, dataset_id: int, path: str) -> dict[str, str]:
    """Return the label digests of retained images with the same stem, by path."""
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
