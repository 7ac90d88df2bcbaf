# SPDX-License-Identifier: Apache-2.0
"""Reads an Ultralytics ``data.yaml`` by Ultralytics' own rules, and without Ultralytics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from expunge.data.labels import label_path
from expunge.data.listing import ListedFile, Listing, checked_name, is_image, sorted_files, walk_images
from expunge.data.types import SPLITS, DatasetConfig
from expunge.errors import InputError

EXTRA_KEYS = ("kpt_shape", "flip_idx", "kpt_names", "channels")
MIN_COLUMNS = 5


def list_yolo(yaml_path: Path) -> Listing:
    """List the images of a ``data.yaml``. ``download:`` in it is ignored.

    ``path`` is absolute or relative to the YAML's folder, which is also the root where ``path`` is missing.
    Each split is a folder, a list of folders, or a text file of image paths (``./`` is relative to the text
    file, other relative paths to the root).
    """
    yaml_path = Path(os.path.abspath(yaml_path))
    data = _load(yaml_path)
    root = _root(yaml_path, data)
    config = DatasetConfig("yolo", _names(yaml_path, data), _extra(yaml_path, data))
    if "val" not in data and "validation" in data:
        data["val"] = data["validation"]
    resolved, prefix = os.path.realpath(root), os.path.join(root, "")
    files: list[ListedFile] = []
    for split in SPLITS:
        value = data.get(split)
        if not value:
            if split == "test":
                continue
            raise InputError(
                f"{yaml_path} has no {split!r}.",
                "Ultralytics needs both 'train' and 'val'.",
                f"Add the folder or list of the {split} images to it.",
            )
        before = len(files)
        for path in _images(yaml_path, root, split, value):
            if path.startswith(prefix):
                relative = path[len(prefix) :]
            else:
                relative = os.path.relpath(path, root)
                if relative.startswith(".."):
                    relative = os.path.relpath(path, resolved)
            if relative.startswith(".."):
                raise InputError(
                    f"{path} lies outside the dataset's root {root}.",
                    "A sample is known by its path relative to the root.",
                    f"Set 'path' in {yaml_path.name} to a folder that holds all images.",
                )
            files.append(ListedFile(checked_name(relative.replace(os.sep, "/")), split, None))
        if len(files) == before:
            raise InputError(
                f"The {split} split of {yaml_path} holds no image.",
                f"It is {value!r}.",
                "Check the path, and the suffixes of the files.",
            )
    return Listing(Path(root), config, sorted_files(files))


def label_file(root: Path, path: str) -> Path:
    """Return where an image's label is; the folder ``images`` may lie above the root, as in Ultralytics."""
    return Path(label_path(f"{root}/{path}"))


def check_label(content: bytes, classes: int, name: str) -> None:
    """Check that each row of a label file starts with the index of a class; the rest passes unread.

    Args:
        content: The file's bytes.
        classes: Number of classes.
        name: What to call the file in an error.
    """
    for number, columns in _rows(content, name):
        index = _class_index(columns[0])
        if index is None or not 0 <= index < classes:
            raise InputError(
                f"{name}, line {number}: {columns[0]!r} is not a class.",
                f"Class indices are whole numbers from 0 to {classes - 1}.",
                "Correct the label, or the names in the data.yaml.",
            )
        if len(columns) < MIN_COLUMNS:
            raise InputError(
                f"{name}, line {number}: {len(columns)} columns.",
                f"A row holds a class and at least {MIN_COLUMNS - 1} coordinates.",
                "Correct the label.",
            )


def label_classes(path: Path) -> set[int]:
    """Return the class indices in a label file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The label {path} cannot be read.", error.strerror or str(error), "Restore the file."
        ) from error
    indices = (_class_index(columns[0]) for _, columns in _rows(content, str(path)))
    return {index for index in indices if index is not None}


def _rows(content: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not a text file.", str(error), "Correct the label.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if columns := line.split():
            yield number, columns


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
        with open(yaml_path, encoding="utf-8-sig", errors="ignore") as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise InputError(
            f"{yaml_path} cannot be read.", error.strerror or str(error), "Give the path of a data.yaml."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{yaml_path} is not valid YAML.", str(error), "Correct the file.") from error
    if not isinstance(data, dict):
        raise InputError(
            f"{yaml_path} is not a data.yaml.", "It holds no 'train', 'val' and 'names'.", "Correct the file."
        )
    return data


def _root(yaml_path: Path, data: dict[str, Any]) -> str:
    value = data.get("path")
    if value is not None and not isinstance(value, str):
        raise InputError(f"'path' in {yaml_path} is not text.", f"It is {value!r}.", "Correct the file.")
    root = os.path.normpath(yaml_path.parent / (value or ""))
    if not os.path.isdir(root):
        raise InputError(
            f"The dataset's root {root} is not a folder.",
            f"'path' in {yaml_path} is {value!r}; a relative one starts at the folder of the YAML.",
            "Correct 'path', or leave it out.",
        )
    return root


def _names(yaml_path: Path, data: dict[str, Any]) -> tuple[str, ...]:
    names, count = data.get("names"), data.get("nc")
    advice = "Give 'names' as a list, or as a map from 0, 1, 2 … to names."
    if names is None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
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
    if count is not None and count != len(numbered):
        raise InputError(
            f"'names' and 'nc' in {yaml_path} differ.",
            f"{len(numbered)} names, nc {count!r}.",
            "Remove 'nc'.",
        )
    ordered = tuple(numbered[index] for index in range(len(numbered)))
    if len(set(ordered)) != len(ordered):
        raise InputError(
            f"Two classes in {yaml_path} have the same name.",
            "Classes are told apart by their names.",
            "Rename one.",
        )
    return ordered


def _extra(yaml_path: Path, data: dict[str, Any]) -> dict[str, Any]:
    extra = {key: data[key] for key in EXTRA_KEYS if data.get(key) is not None}
    try:
        return {key: _plain(value) for key, value in extra.items()}
    except TypeError as error:
        raise InputError(f"{yaml_path} cannot be understood.", str(error), "Correct the file.") from error


def _plain(value: Any) -> Any:
    """Return a value as JSON will give it back."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{value!r} is neither a number nor text.")


def _images(yaml_path: Path, root: str, split: str, value: Any) -> Iterator[str]:
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str):
            raise InputError(
                f"{split!r} in {yaml_path} is not a path.", f"It holds {entry!r}.", "Correct the file."
            )
        place = os.path.normpath(os.path.join(root, entry))
        if not os.path.exists(place) and entry.startswith("../"):  # Ultralytics' own allowance
            place = os.path.normpath(os.path.join(root, entry[3:]))
        if os.path.isdir(place):
            yield from walk_images(place)
        elif os.path.isfile(place):
            yield from _listed(place, root)
        else:
            raise InputError(
                f"{split!r} in {yaml_path} does not exist.", f"There is no {place}.", "Correct the path."
            )


def _listed(text_file: str, root: str) -> Iterator[str]:
    try:
        with open(text_file, encoding="utf-8-sig") as file:
            lines = file.read().strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The list {text_file} cannot be read.", str(error), "Give a text file of image paths, in UTF-8."
        ) from error
    folder = os.path.dirname(text_file)
    for line in lines:
        if is_image(line):
            yield os.path.normpath(os.path.join(folder if line.startswith("./") else root, line))
