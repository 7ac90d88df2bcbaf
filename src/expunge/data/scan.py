# SPDX-License-Identifier: Apache-2.0
"""Scan a dataset on disk: choose the reader, hash the files, check that they can be trained on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from expunge.data.checks import ImageChecks, ReadingTotals, SampleReader, SampleReading, count_hidden
from expunge.data.decoding import quiet_decoders
from expunge.data.findings import refuse_unusable
from expunge.data.folders import list_folders
from expunge.data.listing import Listing
from expunge.data.types import Scan
from expunge.data.yolo import list_yolo
from expunge.errors import InputError
from expunge.storage.user_files import open_text

Progress = Callable[[int, int], None]  # files done, total files

BATCH = 256
DIGEST_LINE = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")


def scan(
    path: Path,
    digests: dict[str, str] | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    *,
    checks: ImageChecks | None = None,
    skip_unreadable: bool = False,
    strict: bool = False,
) -> Scan:
    """Return the samples of a dataset: a ``data.yaml``, a folder with one, or a classification folder.

    Unusable samples of val and test are kept and reported in the findings, unless ``strict``.

    Args:
        path: The file or folder.
        digests: SHA-256 by path relative to the root. A file with a digest is not opened.
        progress: Called after each batch with the number of files done and of all files.
        threads: Number of reader threads.
        checks: Options for checking images. Default: decode all of them.
        skip_unreadable: Leave unusable samples out of train.
        strict: Refuse unusable samples of val and test as well.

    Raises:
        InputError: If samples cannot be used. The message lists all of them together.
    """
    listing = _list(Path(path))
    known = digests or {}
    reader = SampleReader(listing, known, checks or ImageChecks())
    totals = ReadingTotals()
    opened = not all(file.path in known for file in listing.files)
    quiet = quiet_decoders() if opened else nullcontext()
    with quiet, ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        files = iter(listing.files)
        while batch := list(islice(files, BATCH)):
            if all(file.path in known for file in batch):  # nothing to read in threads
                results: Iterable[SampleReading] = (reader.read(file) for file in batch)
            else:
                _ = reader.known_good  # compute the cached property before the threads start
                results = pool.map(reader.read, batch)
            for reading in results:
                totals.add(reading, skip_unreadable, strict)
            if progress is not None:
                progress(totals.done, len(listing.files))
    refuse_unusable(totals.refused, totals.done)
    if listing.config.kind == "folders" and (hidden := count_hidden(listing)):
        totals.counts["hidden"] = hidden
    return Scan(
        listing.root,
        listing.config,
        tuple(totals.samples),
        notes=listing.notes,
        findings=totals.findings(),
    )


def read_digests(path: Path) -> dict[str, str]:
    """Return the digests in a file written by ``sha256sum``, by path relative to the root.

    Raises:
        InputError: If the file cannot be read or a line is malformed.
    """
    digests: dict[str, str] = {}
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                match = DIGEST_LINE.fullmatch(line.rstrip("\r\n"))
                if match is None:
                    raise InputError(
                        f"{path}, line {number} is not a digest.",
                        "Each line is a SHA-256 in hex, two characters, and a path.",
                        "Make the file with sha256sum in the dataset's root.",
                    )
                digest, name = match.groups()
                if line.startswith("\\"):  # sha256sum escapes backslashes and line breaks
                    name = name.replace("\\n", "\n").replace("\\\\", "\\")
                digests[name.removeprefix("./")] = digest.lower()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read.", str(error), "Give a file made by sha256sum.") from error
    return digests


def _list(path: Path) -> Listing:
    if path.is_dir():
        for name in ("data.yaml", "data.yml"):
            if (path / name).is_file():
                return list_yolo(path / name)
        return list_folders(path)
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        raise InputError(
            f"{path} is not a dataset.",
            "It is neither a data.yaml nor a folder." if path.exists() else "It does not exist.",
            "Give an Ultralytics data.yaml, or an image-classification folder (train/ val/ CLASS/ files).",
        )
    return list_yolo(path)
