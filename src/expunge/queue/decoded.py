# SPDX-License-Identifier: Apache-2.0
"""Puts the pixels of erased pictures on the suppression list, so that a purge finds decoded copies later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from expunge.catalog.models import get_request
from expunge.catalog.roots import roots_of
from expunge.catalog.suppression import suppress_decoded
from expunge.catalog.tables import SuppressionRow
from expunge.data.pixels import pixel_digest
from expunge.errors import InputError
from expunge.queue.originals import ErasedFile, erased_files

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def remember_decoded(workspace: Workspace, request_id: str) -> int:
    """Record the keyed pixel digest of each picture that a request erased and that is still there.

    A second call for the same request does nothing.

    Returns:
        How many pictures were recorded.
    """
    with workspace.session() as session:
        row = get_request(session, request_id)
        known = select(func.count()).where(
            SuppressionRow.request_id == request_id, SuppressionRow.kind == "decoded"
        )
        if session.scalar(known):
            return 0
        roots, erased = roots_of(session, row.dataset_id), erased_files(session, row)
    digests = {digest for one in erased for digest in _pixels(one, roots)}
    with workspace.session(write=True) as session:
        suppress_decoded(session, workspace.key, digests, request_id)
    return len(digests)


def _pixels(erased: ErasedFile, roots: list[Path]) -> Iterator[str]:
    """The pixel digest of a picture, from the first folder that has its bytes."""
    from expunge.tasks.images import decode, read_checked

    for root in roots:
        try:
            data = read_checked(root / erased.path, erased.image_digest, erased.path)
            yield pixel_digest(decode(data, erased.path))
            return
        except InputError:
            continue
