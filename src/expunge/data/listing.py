# SPDX-License-Identifier: Apache-2.0
"""Lists image files as Ultralytics would, without opening any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from expunge.data.types import DatasetConfig
from expunge.errors import InputError

# Ultralytics' IMG_FORMATS.
IMAGE_SUFFIXES = frozenset(
    ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
)


class ListedFile(NamedTuple):
    """An image file: its path relative to the root, its split, and its class folder where there is one."""

    path: str
    split: str
    class_name: str | None


@dataclass(frozen=True)
class Listing:
    """A dataset's files, before any was opened."""

    root: Path
    config: DatasetConfig
    files: list[ListedFile]


def is_image(name: str) -> bool:
    """Say whether a file counts as an image, by its suffix."""
    return name.rpartition(".")[-1].lower() in IMAGE_SUFFIXES


def walk_images(folder: str) -> Iterator[str]:
    """Yield the paths of all images below a folder; hidden files are left out, symbolic links followed."""
    yield from _walk(folder, (os.path.realpath(folder),))


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be read.", error.strerror or str(error), "Check its permissions."
        ) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}{os.sep}{entry.name}"
            if real not in above:  # a link to a folder above would never end
                yield from _walk(entry.path, (*above, real))
        elif "." in entry.name and is_image(entry.name):
            yield entry.path


def checked_name(path: str) -> str:
    """Return a relative path if the catalog can hold it; a name that is no UTF-8 is an error."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The file name {path.encode(errors='backslashreplace').decode()} is not valid UTF-8.",
            "A sample is known by its path, so the path must be text.",
            "Rename the file.",
        ) from error
    return path


def sorted_files(files: list[ListedFile]) -> list[ListedFile]:
    """Return the files by path; one that is listed twice is an error."""
    files.sort()
    for one, other in pairwise(files):
        if one.path == other.path:
            where = f"{one.split} and {other.split}" if one.split != other.split else f"{one.split}, twice"
            raise InputError(
                f"{one.path} is listed more than once.",
                f"It is in {where}.",
                "A sample belongs to one split, once: remove the others.",
            )
    return files
