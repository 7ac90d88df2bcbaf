# SPDX-License-Identifier: Apache-2.0
"""List image files as Ultralytics does, without opening them."""

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
NOT_HELD_OUT = "No image is held out of the training, so quality can only be measured on training images."


class ListedFile(NamedTuple):
    """An image file: its path relative to the root, its split, and its class folder or None."""

    path: str
    split: str
    class_name: str | None


@dataclass(frozen=True)
class Listing:
    """The files of a dataset, before any is opened.

    Attributes:
        root: Folder of the dataset.
        config: Configuration of the dataset.
        files: The image files, sorted by path.
        notes: Notes on files that were left out or interpreted.
        folders: Absolute paths of the folders and lists that a data.yaml names as splits.
    """

    root: Path
    config: DatasetConfig
    files: list[ListedFile]
    notes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def is_image(name: str) -> bool:
    """Return whether a file name has the suffix of an image."""
    return name.rpartition(".")[-1].lower() in IMAGE_SUFFIXES


def walk_images(folder: str) -> Iterator[str]:
    """Yield the paths of all images below a folder. Hidden files are skipped; symbolic links are followed.

    Links to a parent folder are skipped. Folders and special files with the suffix of an image are yielded;
    the image reader refuses them later.

    Raises:
        InputError: If a folder cannot be read, or links lead to the same folder too often.
    """
    visits: dict[str, int] = {}
    pending: list[tuple[str, tuple[str, ...]]] = [(folder, (os.path.realpath(folder),))]
    while pending:
        folder, parents = pending.pop()
        visits[parents[-1]] = visits.get(parents[-1], 0) + 1
        if visits[parents[-1]] > MAX_VISITS:
            raise InputError(
                f"Links below {folder} lead to the same folder more than {MAX_VISITS} times.",
                "Links between folders that contain each other multiply the paths.",
                "Remove such links.",
            )
        folders: list[tuple[str, tuple[str, ...]]] = []
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            has_suffix = "." in entry.name and is_image(entry.name)
            if not has_suffix and _is_folder(entry):
                inside = f"{parents[-1]}{os.sep}{entry.name}"
                real = os.path.realpath(inside) if entry.is_symlink() else inside
                if real not in parents:  # a link to a parent would recurse forever
                    folders.append((entry.path, (*parents, real)))
            elif has_suffix:
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
        return False  # a link to itself


def checked_name(path: str) -> str:
    """Return a relative path after checking that the catalog can store it.

    Raises:
        InputError: If the path is not valid UTF-8.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The file name {path.encode(errors='backslashreplace').decode()} is not valid UTF-8.",
            "A sample is identified by its path, so the path must be text.",
            "Rename the file.",
        ) from error
    return path


def merge_files(files: list[ListedFile]) -> tuple[list[ListedFile], list[str]]:
    """Return the files sorted by path, each once, and notes on files listed more than once.

    A sample belongs to one split. A file listed in ``train`` counts as ``train`` only, because it is trained
    on; a file listed in ``val`` and ``test`` counts as ``val``.
    """
    merged: list[ListedFile] = []
    repeated: dict[tuple[str, str], int] = {}
    for file in sorted(files, key=lambda file: (file.path, SPLITS.index(file.split))):
        if merged and merged[-1].path == file.path:
            pair = merged[-1].split, file.split
            repeated[pair] = repeated.get(pair, 0) + 1
        else:
            merged.append(file)
    notes = [
        f"{count} files are listed more than once in {split}; each counts once."
        if split == other
        else f"{count} files of {other} are in {split} as well; they count as {split}."
        for (split, other), count in sorted(repeated.items())
    ]
    return merged, notes
