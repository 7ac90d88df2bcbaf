# SPDX-License-Identifier: Apache-2.0
"""Digests of manifests. A manifest lists the samples of a dataset version, one row each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from expunge.data.types import DatasetConfig, Sample

# ``json.dumps`` with these settings would create an encoder for every row.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def manifest_digest(config: DatasetConfig, samples: Iterable[Sample]) -> str:
    """Return the digest of a manifest (SHA-256, hex), whatever the order of the samples."""
    manifest = ManifestHasher(config)
    for sample in sorted(samples, key=lambda sample: sample.path):
        manifest.add(sample)
    return manifest.hexdigest()


class ManifestHasher:
    """Hashes a manifest row by row, in constant memory.

    Each row is a JSON list on its own line, so different manifests have different encodings. ``arrived`` is
    left out, because the digest depends on the content and not on its history.
    """

    def __init__(self, config: DatasetConfig) -> None:
        header = ["expunge-manifest-v1", config.kind, list(config.names), config.extra]
        self._digest = hashlib.sha256(_encode(header).encode() + b"\n")
        self._last: str | None = None

    def add(self, sample: Sample) -> None:
        """Add the next sample.

        Raises:
            ValueError: If samples are not sorted by path, or a path repeats.
        """
        if self._last is not None and sample.path <= self._last:
            raise ValueError("samples must be sorted by path, each path once")
        self._last = sample.path
        self._digest.update(encoded_row(sample) + b"\n")

    def hexdigest(self) -> str:
        """Return the digest of the samples added so far."""
        return self._digest.hexdigest()


def row_of(sample: Sample) -> list[object]:
    """Return the manifest row of a sample: the fields covered by digests and commitments, in their order."""
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
    """Return the manifest row of a sample as JSON in UTF-8."""
    return _encode(row_of(sample)).encode()
