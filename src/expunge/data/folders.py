# SPDX-License-Identifier: Apache-2.0
"""Reads an image-classification folder: a folder per split, in it a folder per class."""

from __future__ import annotations

import os
from pathlib import Path

from expunge.data.listing import ListedFile, Listing, checked_name, sorted_files, walk_images
from expunge.data.types import DatasetConfig
from expunge.errors import InputError

# Ultralytics takes the first of these that exists.
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}


def list_folders(path: Path) -> Listing:
    """List the images below PATH/{train,val,test}/CLASS. The classes are those of all splits, sorted."""
    root = Path(os.path.abspath(path))
    splits = {
        split: folder
        for split, names in SPLIT_FOLDERS.items()
        if (folder := next((name for name in names if (root / name).is_dir()), None)) is not None
    }
    if "train" not in splits or len(splits) == 1:
        raise InputError(
            f"{root} is not an image-classification folder.",
            "It needs train/CLASS/ with images, and val/ or test/ beside it.",
            "Give such a folder, or the data.yaml of a detection dataset.",
        )
    files: list[ListedFile] = []
    names: set[str] = set()
    for split, folder in splits.items():
        base = root / folder
        for class_name in sorted(entry.name for entry in os.scandir(base) if entry.is_dir()):
            if class_name.startswith("."):
                continue
            names.add(checked_name(class_name))
            prefix = len(os.path.join(root, ""))
            for image in walk_images(os.path.join(base, class_name)):
                files.append(ListedFile(checked_name(image[prefix:].replace(os.sep, "/")), split, class_name))
    found = {file.split for file in files}
    if "train" not in found or len(found) == 1:
        raise InputError(
            f"{root} holds too few images.",
            f"Images were found in: {', '.join(sorted(found)) or 'no split'}.",
            "Give images to train on, and images in val/ or test/.",
        )
    return Listing(root, DatasetConfig("folders", tuple(sorted(names))), sorted_files(files))
