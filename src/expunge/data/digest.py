# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files and of manifests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from expunge.data.types import DatasetConfig, Sample
from expunge.user_files import open_file

CHUNK_BYTES = 1 << 20
# ``json.dumps`` with these settings would make an encoder for each row.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def manifest_digest(config: DatasetConfig, samples: Iterable[Sample]) -> str:
    """Return the digest of a manifest; the order in which the samples come has no influence."""
    manifest = ManifestHasher(config)
    for sample in sorted(samples, key=lambda sample: sample.path):
        manifest.add(sample)
    return manifest.hexdigest()


class ManifestHasher:
    """Hashes a manifest row by row, so that a large one need not be in memory.

    Each row is a JSON list on a line of its own, so no two manifests share an encoding. ``arrived`` is no
    part of it: the digest is a function of the content, not of the way to it.
    """

    def __init__(self, config: DatasetConfig) -> None:
        header = ["expunge-manifest-v1", config.kind, list(config.names), config.extra]
        self._digest = hashlib.sha256(_encode(header).encode() + b"\n")
        self._last: str | None = None

    def add(self, sample: Sample) -> None:
        """Take in the next sample; samples must come in the order of their paths, each once."""
        if self._last is not None and sample.path <= self._last:
            raise ValueError("samples must be sorted by path, each path once")
        self._last = sample.path
        self._digest.update(encoded_row(sample) + b"\n")

    def hexdigest(self) -> str:
        """Return the digest of what was taken in so far."""
        return self._digest.hexdigest()


def row_of(sample: Sample) -> list[object]:
    """Return what a manifest says of a sample, in the order in which it is digested and committed to."""
    return [
        sample.path,
        sample.split,
        sample.image_digest,
        sample.label_digest,
        sample.class_name,
        sorted(sample.subjects),
        sample.public,
    ]


def encoded_row(sample: Sample) -> bytes:
    """Return the row as JSON in UTF-8."""
    return _encode(row_of(sample)).encode()
