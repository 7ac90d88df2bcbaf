# SPDX-License-Identifier: Apache-2.0
"""Exports sanitized trees of a dataset for other trainers, and records where they are."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import derivatives
from expunge.catalog.dataset_store import get_version, iter_samples, parse_ref
from expunge.data.export import export_version
from expunge.errors import InputError
from expunge.evidence import anchor

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def export_data(workspace: Workspace, ref: str, out: Path, link: bool = False) -> dict[str, Any]:
    """Write a dataset version without erased samples as a tree on which Ultralytics can train.

    The catalog records the tree's path, so that ``expunge purge`` finds it once a sample of it is erased.

    Args:
        workspace: The workspace of the dataset.
        ref: Dataset version, ``NAME`` or ``NAME@V``.
        out: Folder for the tree; it must be new or empty.
        link: Make hard links instead of copies if the file system supports them.

    Returns:
        ``dataset``, ``samples`` (their number) and ``data`` (the path to give to Ultralytics).

    Raises:
        InputError: If the folder is not empty, or a file differs from the manifest.
    """
    anchor.check(workspace)
    with workspace.session() as session:
        version = get_version(session, *parse_ref(ref))
        samples = list(iter_samples(session, version, without_erased=True))
    export_id = f"d-{secrets.token_hex(16)}"
    absolute = Path(os.path.abspath(out))
    path = os.path.join(os.path.realpath(absolute.parent), absolute.name)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "The folder's path is not UTF-8.",
            "The catalog must record it, so that the tree is found when a sample of it is erased.",
            "Choose another folder.",
        ) from error
    with workspace.session(write=True) as session:  # before the export: an unrecorded tree is never found
        derivatives.add_data_export(session, export_id, version.dataset_id, version.number, path)
    try:
        written = export_version(version, samples, out, link, export_id)
    except BaseException:
        with workspace.session(write=True) as session:
            derivatives.drop_data_export(session, export_id)
        raise
    return {"dataset": version.label, "samples": len(samples), "data": str(written)}
