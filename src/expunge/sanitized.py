# SPDX-License-Identifier: Apache-2.0
"""Sanitized trees of a dataset for other trainers, and the record of where they are."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import derivatives
from expunge.catalog.datasets import get_version, iter_samples, parse_ref
from expunge.data.export import export_version
from expunge.errors import InputError
from expunge.evidence import anchor

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def export_data(workspace: Workspace, ref: str, out: Path, link: bool = False) -> dict[str, Any]:
    """Write a version, without anything that was erased, as a tree that plain Ultralytics trains on.

    The catalog keeps where the tree is, so that `expunge purge` finds it when something of it is erased.

    Args:
        workspace: Where the dataset is known.
        ref: ``NAME`` or ``NAME@V``.
        out: The folder to make.
        link: Make hard links instead of copies, where the file system can.

    Raises:
        InputError: If the folder is not new or empty, or a file differs from the manifest.
    """
    anchor.check(workspace)
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = list(iter_samples(session, version, without_erased=True))
    export_id = f"d-{secrets.token_hex(16)}"
    whole = Path(os.path.abspath(out))
    place = os.path.join(os.path.realpath(whole.parent), whole.name)
    try:
        place.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "The folder's path is not UTF-8.",
            "It must be kept in the catalog, so that the tree is found when something of it is erased.",
            "Choose another folder.",
        ) from error
    with workspace.session(write=True) as session:  # first: a tree that nobody knows of would never be found
        derivatives.add_data_export(session, export_id, version.dataset_id, version.number, place)
    try:
        written = export_version(version, samples, out, link, export_id)
    except BaseException:
        with workspace.session(write=True) as session:
            derivatives.drop_data_export(session, export_id)
        raise
    return {"dataset": version.label, "samples": len(samples), "data": str(written)}
