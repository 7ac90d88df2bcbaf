# SPDX-License-Identifier: Apache-2.0
"""The weights files of a published version, and their digests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, derivatives
from expunge.storage.digest import file_digest
from expunge.storage.hashing import rounded_digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def remember_files(session: Session, version_id: int, file: Path, states: Sequence[Any]) -> None:
    """Record the SHA-256 of a version's files, and the digests of their tensors rounded to fp16."""
    files = weight_files(file)
    for path, state in zip(files, states, strict=True):
        derivatives.remember_file(session, version_id, f"sha256:{file_digest(path)}")
        rounded = rounded_digest(state).removeprefix("sha256:")
        derivatives.remember_file(session, version_id, f"{ancestry.ROUNDED}{rounded}")


def weight_files(path: Path) -> list[Path]:
    """Return the files of a model or ensemble in the order of shards; none if they are missing."""
    if path.is_dir():
        return sorted(path.glob("*.pt"), key=lambda file: (len(file.name), file.name))
    return [path] if path.is_file() else []
