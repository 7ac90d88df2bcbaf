# SPDX-License-Identifier: Apache-2.0
"""Adds the pixel digests of erased images to the suppression list, so that a purge finds decoded copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from expunge.catalog.dataset_folders import folders_of
from expunge.catalog.model_store import get_request
from expunge.catalog.suppression import suppress_decoded
from expunge.catalog.tables import SuppressionRow
from expunge.data.pixels import pixel_digest
from expunge.errors import InputError
from expunge.purge.originals import ErasedFile, erased_files

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def remember_decoded(workspace: Workspace, request_id: str) -> int:
    """Record the keyed pixel digest of each erased image whose file still exists.

    A second call for the same request does nothing.

    Returns:
        Number of recorded digests.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        known = select(func.count()).where(
            SuppressionRow.request_id == request_id, SuppressionRow.kind == "decoded"
        )
        if session.scalar(known):
            return 0
        roots, erased = folders_of(session, row.dataset_id), erased_files(session, row)
    digests = {digest for file in erased for digest in _pixel_digests(file, roots)}
    with workspace.session(write=True) as session:
        suppress_decoded(session, workspace.key, digests, request_id)
    return len(digests)


def _pixel_digests(erased: ErasedFile, roots: list[Path]) -> Iterator[str]:
    """Yield the pixel digest of an image from the first folder that has its bytes; nothing if none has."""
    from expunge.tasks.images import decode, read_checked

    for root in roots:
        try:
            data = read_checked(root / erased.path, erased.image_digest, erased.path)
            yield pixel_digest(decode(data, erased.path))
            return
        except InputError:
            continue
