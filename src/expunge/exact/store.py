# SPDX-License-Identifier: Apache-2.0
"""The folder of checkpoints, by node key; a file is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from expunge.exact.checkpoint import disk_errors


class CheckpointStore:
    """Checkpoints of one model below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with disk_errors("The folder of checkpoints"):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return where the checkpoint of a node lies."""
        return self.folder / f"{key}.safetensors"

    def partial(self, key: str) -> Path:
        """Return where the state in the midst of a long stage lies."""
        return self.folder / f"{key}.partial"

    def has(self, key: str) -> bool:
        """Whether the node's checkpoint is there."""
        return self.path(key).is_file()

    def stored(self) -> list[str]:
        """Return the keys of all checkpoints, finished or partial."""
        return sorted({p.name.split(".")[0] for p in self.folder.iterdir() if not p.name.startswith(".")})

    def destroy(self, keys: Iterable[str]) -> None:
        """Delete checkpoints, whole and partial, and what was never finished (it may be of the same data)."""
        self.sweep()
        for key in keys:
            self.path(key).unlink(missing_ok=True)
            self.partial(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what a killed writer left half-written."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
