# SPDX-License-Identifier: Apache-2.0
"""A folder of checkpoints by node key; files are written atomically."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from expunge.storage.files import disk_errors


class CheckpointStore:
    """The checkpoints of one model, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with disk_errors("The folder of checkpoints"):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return the path of a node's checkpoint."""
        return self.folder / f"{key}.safetensors"

    def partial(self, key: str) -> Path:
        """Return the path of the intermediate state of a long stage."""
        return self.folder / f"{key}.partial"

    def has(self, key: str) -> bool:
        """Return whether the node's checkpoint exists."""
        return self.path(key).is_file()

    def stored(self) -> list[str]:
        """Return the keys of all checkpoints, complete or partial."""
        return sorted({p.name.split(".")[0] for p in self.folder.iterdir() if not p.name.startswith(".")})

    def destroy(self, keys: Iterable[str]) -> None:
        """Delete complete and partial checkpoints, and all unfinished files, which may hold the same data."""
        self.sweep()
        for key in keys:
            self.path(key).unlink(missing_ok=True)
            self.partial(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete temporary files left by a killed process."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
