# SPDX-License-Identifier: Apache-2.0
"""Lists image files as Ultralytics would, without opening any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from expunge.data.types import SPLITS, DatasetConfig
from expunge.errors import InputError

# Ultralytics' IMG_FORMATS.
IMAGE_SUFFIXES = frozenset(
    ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
)
MAX_VISITS = 32


class ListedFile(NamedTuple):
    """An image file: its path relative to the root, its split, and its class folder where there is one."""

    path: str
    split: str
    class_name: str | None


@dataclass(frozen=True)
class Listing:
    """A dataset's files, before any was opened.

    ``notes`` say what was left out or taken in a certain way; ``folders`` are those that a data.yaml names as
    splits.
    """

    root: Path
    config: DatasetConfig
    files: list[ListedFile]
    notes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def is_image(name: str) -> bool:
    """Say whether a file counts as an image, by its suffix."""
    return name.rpartition(".")[-1].lower() in IMAGE_SUFFIXES


def walk_images(folder: str) -> Iterator[str]:
    """Yield the paths of all images below a folder; hidden files are left out, symbolic links followed.

    A link to a folder above is left out. What is named like an image and is none (a folder, a pipe) is
    yielded: the reader of the images refuses it.

    Raises:
        InputError: If a folder cannot be read, or links lead to one folder again and again.
    """
    visits: dict[str, int] = {}
    pending: list[tuple[str, tuple[str, ...]]] = [(folder, (os.path.realpath(folder),))]
    while pending:
        folder, above = pending.pop()
        visits[above[-1]] = visits.get(above[-1], 0) + 1
        if visits[above[-1]] > MAX_VISITS:
            raise InputError(
                f"Links below {folder} lead to one folder again and again.",
                f"It was reached in {MAX_VISITS} ways.",
                "Remove links between folders that hold each other.",
            )
        folders: list[tuple[str, tuple[str, ...]]] = []
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            named = "." in entry.name and is_image(entry.name)
            if not named and _is_folder(entry):
                inside = f"{above[-1]}{os.sep}{entry.name}"
                real = os.path.realpath(inside) if entry.is_symlink() else inside
                if real not in above:  # a link to a folder above would never end
                    folders.append((entry.path, (*above, real)))
            elif named:
                yield entry.path
        pending += reversed(folders)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be read.", error.strerror or str(error), "Check its permissions."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


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


def merge_files(files: list[ListedFile]) -> tuple[list[ListedFile], list[str]]:
    """Return the files by path, each once, and notes on those that were listed more than once.

    A sample belongs to one split. What is in ``train`` as well is trained on, so it counts as ``train``; what
    is in ``val`` and ``test`` counts as ``val``.
    """
    merged: list[ListedFile] = []
    again: dict[tuple[str, str], int] = {}
    for file in sorted(files, key=lambda file: (file.path, SPLITS.index(file.split))):
        if merged and merged[-1].path == file.path:
            pair = merged[-1].split, file.split
            again[pair] = again.get(pair, 0) + 1
        else:
            merged.append(file)
    notes = [
        f"{count} files are listed more than once in {split}; each counts once."
        if split == other
        else f"{count} files of {other} are in {split} as well; they count as {split}."
        for (split, other), count in sorted(again.items())
    ]
    return merged, notes
