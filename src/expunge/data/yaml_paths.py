# SPDX-License-Identifier: Apache-2.0
"""Resolve the folders and lists of a ``data.yaml`` as Ultralytics does."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.data.listing import is_image, walk_images
from expunge.errors import InputError
from expunge.storage.user_files import read_text

UP = "../"


@dataclass(frozen=True)
class SplitImages:
    """The images of a split.

    Attributes:
        places: Absolute paths of the existing folders and lists.
        images: Absolute paths of the images.
        notes: Notes on entries that were left out or interpreted.
    """

    places: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_root(yaml_path: Path, data: dict[str, Any]) -> tuple[str, str | None]:
    """Return the dataset's root, and a note if ``path`` was ambiguous.

    A relative ``path`` starts at the folder of the YAML or, as in Ultralytics, at the current folder. The one
    that holds the train split is used.

    Raises:
        InputError: If there is no such folder, or both hold a train split.
    """
    value = data.get("path")
    if value is not None and not isinstance(value, str):
        raise InputError(f"'path' in {yaml_path} is not text.", f"It is {value!r}.", "Correct the file.")
    own, train = str(yaml_path.parent), data.get("train")
    if not value:
        return own, None
    starts = {os.path.realpath(start): start for start in (own, os.getcwd())}.values()
    found: dict[str, str] = {}
    for start in starts:
        root = resolve_entry(start, value)
        if root is not None and os.path.isdir(root):
            found.setdefault(os.path.realpath(root), root)
    if not found:
        fetch = " Nothing is downloaded here: fetch the data first." if data.get("download") else ""
        places = " nor ".join(dict.fromkeys(os.path.normpath(os.path.join(s, value)) for s in starts))
        raise InputError(
            f"The dataset's root {value} is not a folder.",
            f"'path' in {yaml_path} is {value!r}; there is no {places}.",
            f"Give 'path' as an absolute path to the data.{fetch}",
        )
    holding = [root for root in found.values() if _holds(root, train)]
    if len(holding) > 1:
        raise InputError(
            f"'path' in {yaml_path} could mean two folders.",
            f"From the folder of the YAML it is {holding[0]}, from the current folder {holding[1]}, and both"
            " hold a train split.",
            "Give 'path' as an absolute path.",
        )
    root = holding[0] if holding else next(iter(found.values()))
    if os.path.isabs(value) or len(starts) == 1:
        return root, None
    return root, f"'path: {value}' in {yaml_path.name} was resolved to {root}."


def resolve_entry(start: str, entry: str) -> str | None:
    """Return the absolute path of an entry relative to a folder, or None if it does not exist.

    A superfluous leading ``../`` is dropped, as in Ultralytics (exports of labelling services have it), and
    backslashes may separate folders.
    """
    for text in dict.fromkeys((entry, entry.replace("\\", "/"))):
        for relative in (text, text[len(UP) :]) if text.startswith(UP) else (text,):
            place = os.path.normpath(os.path.join(start, relative))
            if os.path.exists(place):
                return place
    return None


def entries_of(yaml_path: Path, split: str, value: Any) -> list[str]:
    """Return the entries of a split: paths of folders and lists.

    Raises:
        InputError: If an entry is not text.
    """
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            raise InputError(
                f"{split!r} in {yaml_path} is not a path.", f"It holds {entry!r}.", "Correct the file."
            )
    return entries


def find_images(yaml_path: Path, root: str, split: str, value: Any) -> SplitImages:
    """Return the images of a split. Missing entries of ``val`` and ``test`` are noted and left out.

    Raises:
        InputError: If a folder or list of ``train`` does not exist, or a file cannot be read.
    """
    places, images, notes = list[str](), list[str](), list[str]()
    for entry in entries_of(yaml_path, split, value):
        place = resolve_entry(root, entry)
        if place is None:
            missing = os.path.normpath(os.path.join(root, entry))
            if split == "train":
                raise InputError(
                    f"{split!r} in {yaml_path} does not exist.",
                    f"There is no {missing}.",
                    "Correct the path.",
                )
            notes.append(f"'{split}: {entry}' in {yaml_path.name} does not exist and was left out.")
            continue
        places.append(place)
        if os.path.isdir(place):
            images += walk_images(place)
        else:
            listed, left_out = _listed(place, root, split)
            images += listed
            notes += left_out
    if not images and split == "train":
        raise InputError(
            f"The {split} split of {yaml_path} holds no image.",
            f"It is {value!r}.",
            "Check the path, and the suffixes of the files.",
        )
    if places and not images:
        notes.append(f"The {split} split of {yaml_path.name} holds no image.")
    return SplitImages(tuple(places), tuple(images), tuple(notes))


def _holds(root: str, train: Any) -> bool:
    entries = train if isinstance(train, list) else [train]
    return any(isinstance(entry, str) and resolve_entry(root, entry) is not None for entry in entries)


def _listed(text_file: str, root: str, split: str) -> tuple[list[str], list[str]]:
    """Return the images named in a list file, and notes on lines that were skipped or interpreted."""
    try:
        lines = read_text(text_file).strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The list {text_file} cannot be read.", str(error), "Give a text file of image paths, in UTF-8."
        ) from error
    folder, name = os.path.dirname(text_file), os.path.basename(text_file)
    found, absent, other, from_here = list[str](), 0, 0, 0
    listings: dict[str, dict[str, list[str]]] = {}
    for line in lines:
        if not is_image(line):
            other += bool(line.strip()) and not line.lstrip().startswith("#")
            continue
        place = os.path.normpath(os.path.join(folder if line.startswith("./") else root, line))
        if not os.path.lexists(place):
            here, twin = os.path.abspath(line), _same_name(place, listings)
            if twin is not None:
                place = twin
            elif not line.startswith("./") and os.path.lexists(here):  # as Ultralytics does
                place, from_here = here, from_here + 1
            elif (resolved := resolve_entry(folder if line.startswith("./") else root, line)) is not None:
                place = resolved
            else:
                absent += 1
                continue
        found.append(place)
    notes = []
    if absent:
        notes.append(f"{absent} of {len(lines)} lines in {name} ({split}) name files that do not exist.")
    if other:
        notes.append(f"{other} of {len(lines)} lines in {name} ({split}) name no image, by their suffix.")
    if from_here:
        notes.append(f"{from_here} of {len(lines)} lines in {name} ({split}) start at the current folder.")
    return found, notes


def _same_name(place: str, listings: dict[str, dict[str, list[str]]]) -> str | None:
    """Return the only existing path that differs from this one in Unicode normalisation, or None."""
    folder, name = os.path.split(place)
    if name.isascii():
        return None
    if folder not in listings:
        names: dict[str, list[str]] = {}
        for other in os.listdir(folder) if os.path.isdir(folder) else ():
            names.setdefault(unicodedata.normalize("NFC", other), []).append(other)
        listings[folder] = names
    found = listings[folder].get(unicodedata.normalize("NFC", name), [])
    return os.path.join(folder, found[0]) if len(found) == 1 else None
