# SPDX-License-Identifier: Apache-2.0
"""Finds out what is on disk: picks the reader, hashes the files, checks that images can be read."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from expunge.data.folders import list_folders
from expunge.data.labels import label_path
from expunge.data.listing import ListedFile, Listing
from expunge.data.types import Sample, Scan
from expunge.data.yolo import check_label, list_yolo
from expunge.errors import InputError
from expunge.user_files import open_text, read_bytes

Progress = Callable[[int, int], None]  # files done, files in all

BATCH = 256
SHOWN = 5
DIGEST_LINE = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")


def scan(
    path: Path,
    digests: dict[str, str] | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Scan:
    """Read a dataset: a ``data.yaml``, a folder with one, or an image-classification folder.

    Args:
        path: The file or folder.
        digests: SHA-256 by path relative to the root; a file with one is not opened at all.
        progress: Called now and then with the files done and the files in all.
        threads: Threads that hash.
    """
    listing = _list(Path(path))
    known = digests or {}
    samples: list[Sample] = []
    problems: list[tuple[str, str]] = []
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        files = iter(listing.files)
        while batch := list(islice(files, BATCH)):
            if all(file.path in known for file in batch):  # no work for the threads
                results: Iterator[Sample | tuple[str, str]] = (_read(listing, known, file) for file in batch)
            else:
                results = pool.map(lambda file: _read(listing, known, file), batch)
            for result in results:
                if isinstance(result, Sample):
                    samples.append(result)
                else:
                    problems.append(result)
            if progress is not None:
                progress(len(samples) + len(problems), len(listing.files))
    if problems:
        first, reason = problems[0]
        others = ", ".join(path for path, _ in problems[1:SHOWN])
        raise InputError(
            f"{len(problems)} of {len(listing.files)} images cannot be read: {first}"
            + (f", {others}" if others else "")
            + (" …" if len(problems) > SHOWN else ""),
            f"{first}: {reason}",
            "Repair or remove them; nothing was changed.",
        )
    return Scan(listing.root, listing.config, tuple(samples), notes=listing.notes)


def read_digests(path: Path) -> dict[str, str]:
    """Read a file in the format of ``sha256sum``: digest, two characters, path relative to the root."""
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


def _read(listing: Listing, known: dict[str, str], file: ListedFile) -> Sample | tuple[str, str]:
    """Return the sample, or its path and why its image cannot be read."""
    digest = known.get(file.path)
    if digest is None:
        try:
            digest = _hash_image(f"{listing.root}/{file.path}")
        except Exception as error:  # whatever Pillow's decoders raise, also as Ultralytics patches it
            return file.path, _reason(error)
    label = _label_digest(listing, known, file.path) if listing.config.kind == "yolo" else ""
    return Sample(file.path, file.split, digest, label, file.class_name)


def _hash_image(path: str) -> str:
    from PIL import Image

    content = read_bytes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
    return hashlib.sha256(content).hexdigest()


def _label_digest(listing: Listing, known: dict[str, str], path: str) -> str:
    label = label_path(f"{listing.root}/{path}")
    if known:
        prefix = f"{listing.root}/"
        inside = label.startswith(prefix)
        name = label[len(prefix) :] if inside else os.path.relpath(label, listing.root)
        if name in known:
            return known[name]
    try:
        content = read_bytes(label)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(
            f"The label {label} cannot be read.", error.strerror or str(error), "Check the file."
        ) from error
    check_label(content, len(listing.config.names), label)
    return hashlib.sha256(content).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "The file does not exist."
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"It is not an image that can be decoded ({type(error).__name__})."
