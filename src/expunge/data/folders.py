# SPDX-License-Identifier: Apache-2.0
"""List an image-classification folder: one folder per split, with one folder per class."""

from __future__ import annotations

import os
from pathlib import Path

from expunge.data.listing import NOT_HELD_OUT, ListedFile, Listing, checked_name, merge_files, walk_images
from expunge.data.types import DatasetConfig
from expunge.errors import InputError

# As in Ultralytics, the first existing folder is used.
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
DETECTION_FOLDERS = {"images", "labels"}


def list_folders(path: Path) -> Listing:
    """Return the images below PATH/{train,val,test}/CLASS. The classes are those of all splits, sorted.

    In a folder of classes without splits, all images are ``train``. Ultralytics would split a copy instead.

    Raises:
        InputError: If the folder has another layout, or no image to train on.
    """
    root = Path(os.path.abspath(path))
    splits = {
        split: folder
        for split, names in SPLIT_FOLDERS.items()
        if (folder := next((name for name in names if (root / name).is_dir()), None)) is not None
    }
    notes: list[str] = []
    if not splits and len(classes := _classes(root)) > 1 and not DETECTION_FOLDERS & set(classes):
        splits = {"train": "."}
        notes.append(f"{root.name} has no 'train': all images of its {len(classes)} classes count as train.")
        if Path(f"{root}_split").is_dir():
            notes.append(f"Ultralytics made a split copy: for a model trained on it, give {root.name}_split.")
    if "train" not in splits:
        raise InputError(
            f"{root} is not an image-classification folder.",
            "It needs train/CLASS/ with images, and val/ or test/ beside it.",
            "Give such a folder, or the data.yaml of a detection dataset.",
        )
    files: list[ListedFile] = []
    names: set[str] = set()
    prefix = len(os.path.join(root, ""))
    for split, folder in splits.items():
        base = os.path.normpath(root / folder)
        for class_name in _folders(base):
            if class_name.startswith("."):
                continue
            names.add(checked_name(class_name))
            for image in walk_images(os.path.join(base, class_name)):
                files.append(ListedFile(checked_name(image[prefix:].replace(os.sep, "/")), split, class_name))
    found = {file.split for file in files}
    if "train" not in found:
        raise InputError(
            f"{root} holds too few images.",
            f"Images were found in: {', '.join(sorted(found)) or 'no split'}.",
            "Give images to train on.",
        )
    notes += [f"The {split} split holds no image." for split in splits if split not in found]
    notes += [NOT_HELD_OUT] if len(found) == 1 else []
    files, _ = merge_files(files)
    return Listing(root, DatasetConfig("folders", tuple(sorted(names))), files, tuple(notes))


def _folders(base: str) -> list[str]:
    try:
        with os.scandir(base) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise InputError(
            f"The folder {base} cannot be read.", error.strerror or str(error), "Check its permissions."
        ) from error


def _classes(root: Path) -> list[str]:
    """Return the names of the folders that hold images."""
    folders = [name for name in _folders(str(root)) if not name.startswith(".")]
    return [name for name in folders if next(walk_images(str(root / name)), None) is not None]
