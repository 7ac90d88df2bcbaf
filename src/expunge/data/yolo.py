# SPDX-License-Identifier: Apache-2.0
"""Read an Ultralytics ``data.yaml`` by the rules of Ultralytics, without importing it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from expunge.data.label_files import find_label
from expunge.data.listing import NOT_HELD_OUT, ListedFile, Listing, checked_name, merge_files
from expunge.data.types import SPLITS, VAL_IN_TRAIN, DatasetConfig
from expunge.data.yaml_paths import SplitImages, find_images, find_root
from expunge.errors import InputError
from expunge.storage.user_files import TooComplex, read_bytes, read_text
from expunge.storage.user_yaml import parse_yaml

EXTRA_KEYS = ("kpt_shape", "flip_idx", "kpt_names", "channels")
MAX_CLASSES = 100_000
UNPRINTABLE = re.compile(r"[^\x09\x0A\x0D\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010ffff]+")


def list_yolo(yaml_path: Path) -> Listing:
    """Return the images of a ``data.yaml``. ``download:`` in it is ignored.

    ``path`` is absolute, or relative to the YAML's folder or to the current folder. Without ``path``, the
    YAML's folder is the root. Each split is a folder, a list of folders, or a text file of image paths (paths
    with ``./`` are relative to the text file, other relative paths to the root). A missing ``val`` or
    ``test`` is left out with a note.

    Raises:
        InputError: If the file is malformed, or there are no images to train on.
    """
    yaml_path = Path(os.path.abspath(yaml_path))
    data = _load(yaml_path)
    root, note = find_root(yaml_path, data)
    notes = [note] if note else []
    names, extra = _names(yaml_path, data), _extra(yaml_path, data)
    if "val" not in data and "validation" in data:
        data["val"] = data["validation"]
    splits: dict[str, SplitImages] = {}
    for split in SPLITS:
        value = data.get(split)
        if not value and (split == "train" or (split == "val" and "val" not in data)):
            raise InputError(
                f"{yaml_path} has no {split!r}.",
                "Ultralytics needs both 'train' and 'val'.",
                f"Add the folder or list of the {split} images to it.",
            )
        if value:
            splits[split] = find_images(yaml_path, root, split, value)
            notes += splits[split].notes
    if wider := _wider_root(root, splits):
        root = wider
        notes.append(f"Images lie outside the root; paths are relative to {root}.")
    files = [
        ListedFile(_relative(yaml_path, root, path), split, None)
        for split, found in splits.items()
        for path in found.images
    ]
    files, repeated = merge_files(files)
    held_out = {file.split for file in files} - {"train"}
    if not held_out:
        notes.append(NOT_HELD_OUT)
        if "val" in splits and splits["val"].images:
            extra = {**extra, VAL_IN_TRAIN: True}
    return Listing(
        Path(root),
        DatasetConfig("yolo", names, extra),
        files,
        tuple(dict.fromkeys([*notes, *repeated])),
        tuple(place for found in splits.values() for place in found.places),
    )


def _wider_root(root: str, splits: dict[str, SplitImages]) -> str | None:
    """Return the folder that holds all images if the root does not; None if it does, or only ``/`` would."""
    prefixes = os.path.join(root, ""), os.path.join(os.path.realpath(root), "")
    images = [path for found in splits.values() for path in found.images]
    if all(path.startswith(prefixes) for path in images):
        return None
    wide = os.path.commonpath([os.path.dirname(path) for path in images])
    return wide if os.path.dirname(wide) != wide else None


def _relative(yaml_path: Path, root: str, path: str) -> str:
    """Return an image's path relative to the root."""
    for start in (root, os.path.realpath(root)):
        prefix = os.path.join(start, "")
        if path.startswith(prefix):
            return checked_name(path[len(prefix) :].replace(os.sep, "/"))
    raise InputError(
        f"{path} lies outside the dataset's root {root}.",
        "A sample is identified by its path relative to the root, and the images share no folder.",
        f"Put the images below one folder, and set 'path' in {yaml_path.name} to it.",
    )


def label_file(root: Path, path: str) -> Path:
    """Return the path of an image's label. As in Ultralytics, the folder ``images`` may be above the root."""
    return find_label(root, path)


def label_classes(path: Path) -> set[int]:
    """Return the class indices in a label file.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"The label {path} cannot be read.", error.strerror or str(error), "Restore the file."
        ) from error
    rows = (line.split() for line in content.decode("utf-8-sig", errors="replace").splitlines())
    indices = (_class_index(columns[0]) for columns in rows if columns)
    return {index for index in indices if index is not None}


def _class_index(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        try:
            value = float(text)  # numpy.savetxt writes 0.000000e+00
        except ValueError:
            return None
        return int(value) if value.is_integer() else None


def _load(yaml_path: Path) -> dict[str, Any]:
    try:
        text = read_text(yaml_path, errors="ignore")
        try:
            data = parse_yaml(text)
        except yaml.YAMLError:
            data = parse_yaml(UNPRINTABLE.sub("", text))  # as Ultralytics does
    except OSError as error:
        raise InputError(
            f"{yaml_path} cannot be read.", error.strerror or str(error), "Give the path of a data.yaml."
        ) from error
    except (yaml.YAMLError, TooComplex) as error:
        raise InputError(f"{yaml_path} is not valid YAML.", str(error), "Correct the file.") from error
    if not isinstance(data, dict):
        raise InputError(
            f"{yaml_path} is not a data.yaml.", "It holds no 'train', 'val' and 'names'.", "Correct the file."
        )
    return {str(key): None if value == "None" else value for key, value in data.items()}


def _names(yaml_path: Path, data: dict[str, Any]) -> tuple[str, ...]:
    names, count = data.get("names"), _count(data.get("nc"))
    advice = "Give 'names' as a list, or as a map from 0, 1, 2 … to names."
    if names is None:
        if count is None or not 1 <= count <= MAX_CLASSES:
            raise InputError(
                f"{yaml_path} has neither 'names' nor 'nc'.", "It must name the classes.", advice
            )
        return tuple(f"class_{index}" for index in range(count))
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        numbered = {int(index): str(name) for index, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"The 'names' in {yaml_path} cannot be read.", f"They are {names!r}.", advice
        ) from None
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        raise InputError(
            f"The 'names' in {yaml_path} are not numbered 0, 1, 2 …", f"They are {names!r}.", advice
        )
    if data.get("nc") is not None and count != len(numbered):
        raise InputError(
            f"'names' and 'nc' in {yaml_path} differ.",
            f"{len(numbered)} names, nc {data['nc']!r}.",
            "Remove 'nc', or correct 'names'.",
        )
    ordered = tuple(numbered[index] for index in range(len(numbered)))
    if len(set(ordered)) != len(ordered):
        raise InputError(
            f"Two classes in {yaml_path} have the same name.",
            "Classes are distinguished by their names.",
            "Rename one.",
        )
    return ordered


def _count(value: Any) -> int | None:
    """Return ``nc`` as Ultralytics reads it (a whole number, possibly as text), or None."""
    try:
        number = float(value)
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _extra(yaml_path: Path, data: dict[str, Any]) -> dict[str, Any]:
    extra = {key: data[key] for key in EXTRA_KEYS if data.get(key) is not None}
    try:
        return {key: _plain(value) for key, value in extra.items()}
    except TypeError as error:
        raise InputError(f"{yaml_path} has an invalid value.", str(error), "Correct the file.") from error


def _plain(value: Any) -> Any:
    """Return a value in JSON types, as it will be read back from the catalog.

    Raises:
        TypeError: If it contains another type.
    """
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{value!r} is neither a number nor text.")
