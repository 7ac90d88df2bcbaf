# SPDX-License-Identifier: Apache-2.0
"""What a survey says: what is left over and why, what was left alone and why."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from expunge.purge.tree import Entry

KINDS = {
    "weights": "weights of a superseded version",
    "checkpoint": "a training state that no live model needs",
    "unpublished": "what a killed command left unfinished",
    "temporary": "a draft of a command that is gone",
    "start": "initial weights of trainings from a superseded version",
    "export": "an export of a superseded version",
    "copy": "a copy of a superseded version, byte for byte",
    "data-export": "a tree of samples some of which were erased since",
    "cache": "a cache made from samples some of which were erased since",
    "decoded": "a decoded copy of an erased picture",
    "picture": "a copy of an erased picture",
    "run": "a picture, label or record that a training with Ultralytics left",
    "folder": "a folder that is empty once its content is gone",
}


@dataclass(frozen=True)
class Leftover:
    """Something to delete.

    Attributes:
        entry: Which file or folder.
        kind: A key of ``KINDS``.
        reason: Why it is left over.
        requests: The erasures whose data it holds, as far as that is known.
        source: What it belongs to in the catalog: ``("version", id)``, ``("export", id)``, ``("data", id)``.
    """

    entry: Entry
    kind: str
    reason: str
    requests: tuple[str, ...] = ()
    source: tuple[str, Any] | None = None

    @property
    def path(self) -> str:
        """The whole path; bytes that are no UTF-8 as surrogates."""
        return os.fsdecode(self.entry.path)

    def as_json(self) -> dict[str, Any]:
        """Return what ``purge --json`` lists."""
        return {
            "path": self.path,
            "kind": self.kind,
            "reason": self.reason,
            "bytes": self.entry.size_bytes,
            "other_names": self.entry.links - 1,
            "requests": list(self.requests),
        }


@dataclass(frozen=True)
class Left:
    """Something that looks left over and is left alone, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        leftovers: What to delete.
        left: What is left alone, and why.
        busy: Models that a running command holds; nothing of them is in ``leftovers``.
        not_searched: Folders of the user's that were not named, where copies may lie.
    """

    leftovers: tuple[Leftover, ...]
    left: tuple[Left, ...] = ()
    busy: tuple[str, ...] = ()
    not_searched: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What the files take."""
        return sum(leftover.entry.size_bytes for leftover in self.leftovers)

    @cached_property
    def digest(self) -> str:
        """Digest of exactly these files as they are now: the dry run's word for what will be deleted."""
        digest = hashlib.sha256(b"expunge-purge-v1\n")
        for part in self._rows():
            digest.update(part)
        return f"sha256:{digest.hexdigest()}"

    def _rows(self) -> Iterator[bytes]:
        for leftover in self.leftovers:
            e = leftover.entry
            numbers = (e.root.device, e.root.inode, e.folder, e.inode, e.size_bytes, e.mtime_ns, e.links)
            fields = [leftover.kind.encode(), e.root.path, *e.names, *(str(int(n)).encode() for n in numbers)]
            yield b"".join(f"{len(field)}:".encode() + field for field in fields) + b"\n"
