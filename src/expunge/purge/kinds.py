# SPDX-License-Identifier: Apache-2.0
"""Results of a survey: leftovers to delete and files that are skipped, each with the reason."""

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
    """A file or folder to delete.

    Attributes:
        entry: The file or folder.
        kind: A key of ``KINDS``.
        reason: Why it is a leftover.
        requests: Ids of the requests whose data it holds, as far as known.
        source: The catalog entry to which it belongs: ``("version", id)``, ``("export", id)`` or
            ``("data", id)``; None: none.
    """

    entry: Entry
    kind: str
    reason: str
    requests: tuple[str, ...] = ()
    source: tuple[str, Any] | None = None

    @property
    def path(self) -> str:
        """The absolute path; bytes that are not UTF-8 are surrogates."""
        return os.fsdecode(self.entry.path)

    def as_json(self) -> dict[str, Any]:
        """Return the leftover's entry in ``purge --json``."""
        return {
            "path": self.path,
            "kind": self.kind,
            "reason": self.reason,
            "bytes": self.entry.size_bytes,
            "other_names": self.entry.links - 1,
            "requests": list(self.requests),
        }


@dataclass(frozen=True)
class SkippedFile:
    """A file or folder that may be a leftover but is not deleted, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Survey:
    """The result of a survey.

    Attributes:
        leftovers: Files and folders to delete.
        left: Files and folders that are skipped.
        busy: Names of models locked by a running command; ``leftovers`` has nothing of them.
        not_searched: Folders of datasets that were not searched and may have copies.
    """

    leftovers: tuple[Leftover, ...]
    left: tuple[SkippedFile, ...] = ()
    busy: tuple[str, ...] = ()
    not_searched: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Total size of the leftovers in bytes."""
        return sum(leftover.entry.size_bytes for leftover in self.leftovers)

    @cached_property
    def digest(self) -> str:
        """Digest of the leftovers in their present state: the ``plan`` of a dry run."""
        digest = hashlib.sha256(b"expunge-purge-v1\n")
        for part in self._rows():
            digest.update(part)
        return f"sha256:{digest.hexdigest()}"

    def _rows(self) -> Iterator[bytes]:
        """Yield an unambiguous encoding of each leftover."""
        for leftover in self.leftovers:
            e = leftover.entry
            numbers = (e.root.device, e.root.inode, e.folder, e.inode, e.size_bytes, e.mtime_ns, e.links)
            fields = [leftover.kind.encode(), e.root.path, *e.names, *(str(int(n)).encode() for n in numbers)]
            yield b"".join(f"{len(field)}:".encode() + field for field in fields) + b"\n"
