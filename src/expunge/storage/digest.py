# SPDX-License-Identifier: Apache-2.0
"""SHA-256 digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from expunge.storage.user_files import open_file

CHUNK_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes (hex)."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
