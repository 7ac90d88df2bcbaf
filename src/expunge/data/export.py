# SPDX-License-Identifier: Apache-2.0
"""Write a sanitized copy of a dataset version, on which plain Ultralytics can train."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from expunge.data.types import SPLITS, VAL_IN_TRAIN, Sample, Version
from expunge.data.yolo import label_file
from expunge.errors import InputError, StorageError
from expunge.storage.user_files import open_file

CHUNK_BYTES = 1 << 20
MARKER = ".expunge-export"  # hidden file by which a later purge recognises the export


def export_version(
    version: Version, samples: Iterable[Sample], out: Path, link: bool = False, marker: str | None = None
) -> Path:
    """Write samples of a version into a new folder, with its own data.yaml or class folders.

    The folder holds only the files of the given samples, each verified against its digest while it is copied.
    Label caches and other files are not copied. The folder appears complete or not at all.

    Args:
        version: The version.
        samples: The samples to export.
        out: The folder to write. It must not exist or must be empty.
        link: Make hard links instead of copies if the file system supports them.
        marker: Text for a hidden marker file in the export.

    Returns:
        The value for ``yolo train data=…``: the data.yaml, or the folder for classification.

    Raises:
        InputError: If the folder is not suitable, or a source file is missing or changed.
        StorageError: If the export cannot be written.
    """
    out = Path(os.path.abspath(out))
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(
            f"{out} exists already.", "An export goes to a new or empty folder.", "Choose another."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise _storage_error(out, error) from error
    try:
        splits: dict[str, list[str]] = {split: [] for split in SPLITS}
        for sample in samples:
            _place(version, sample, work, out, link)
            splits[sample.split].append(sample.path)
        if version.config.kind == "folders":
            _make_class_folders(version, splits, work)
        else:
            _write_yaml(version, splits, work)
        if marker is not None:
            (work / MARKER).write_text(f"{marker}\n", encoding="ascii")
        work.chmod(0o777 & ~_umask())
        work.rename(out)
    except OSError as error:
        raise _storage_error(out, error) from error
    finally:
        if work.exists():
            shutil.rmtree(work)
    return out if version.config.kind == "folders" else out / "data.yaml"


def _place(version: Version, sample: Sample, work: Path, out: Path, link: bool) -> None:
    _copy(version.root / sample.path, work / sample.path, sample.image_digest, link)
    if not sample.label_digest:
        return
    label = label_file(out, sample.path)  # where Ultralytics will look for it
    if not label.is_relative_to(out):
        raise InputError(
            f"The export cannot go to {out}.",
            "A folder above it is named 'images', so Ultralytics would look for labels outside of it.",
            "Choose a folder that is not below one named 'images'.",
        )
    target = work / label.relative_to(out)
    if not target.exists():  # images with the same name and different suffixes share a label
        _copy(label_file(version.root, sample.path), target, sample.label_digest, link)


def _copy(source: Path, target: Path, digest: str, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = open_file(source)  # closed below; later errors concern the target, not the source
    except OSError as error:
        raise InputError(
            f"{source} cannot be read.",
            error.strerror or str(error),
            "Restore the file, or record the folder as it is now with: expunge data add … --full",
        ) from error
    copied = hashlib.sha256()
    linked = link and _link(source, target)
    with file:
        if linked:
            while chunk := file.read(CHUNK_BYTES):
                copied.update(chunk)
        else:
            with open(target, "xb") as copy:
                while chunk := file.read(CHUNK_BYTES):
                    copied.update(chunk)
                    copy.write(chunk)
    if copied.hexdigest() != digest:
        raise InputError(
            f"{source} has changed since it was added.",
            "Its bytes are not those that the version recorded.",
            "Restore the file, or record the folder as it is now with: expunge data add",
        )


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        return False  # another disk, or a file system without links: copy
    return True


def _make_class_folders(version: Version, splits: dict[str, list[str]], work: Path) -> None:
    """Create a folder for every class in every split, so that empty classes keep their indices."""
    folders = {split: paths[0].split("/")[0] for split, paths in splits.items() if paths}
    folders.setdefault("train", "train")
    if len(folders) == 1:
        folders["val"] = "val"
    for folder in folders.values():
        for name in version.config.names:
            (work / folder / name).mkdir(parents=True, exist_ok=True)


def _write_yaml(version: Version, splits: dict[str, list[str]], work: Path) -> None:
    # Without 'path', Ultralytics resolves paths from the folder of the YAML, whatever the current folder.
    data: dict[str, Any] = {}
    folders = {split: common_folder(paths) for split, paths in splits.items()}
    for split, paths in splits.items():
        if not paths and (split == "test" or (split == "val" and version.config.val_in_train)):
            continue
        others = [path for other in SPLITS if other != split for path in splits[other]]
        folder = folders[split]
        if folder and not any(path.startswith(f"{folder}/") for path in others):
            data[split] = folder
        else:
            name = f"{split}.txt"
            while (work / name).exists():  # the label of an image called train.jpg
                name = f"_{name}"
            data[split] = name
            _write_list(work / name, paths)
    if version.config.val_in_train and not splits["val"]:
        data["val"] = data["train"]
    data["names"] = dict(enumerate(version.config.names))
    data.update({key: value for key, value in version.config.extra.items() if key != VAL_IN_TRAIN})
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    (work / "data.yaml").write_text(text, encoding="utf-8")


def common_folder(paths: list[str]) -> str:
    """Return the folder that holds all paths, or an empty string if they must be listed in a file."""
    folders = {path.rpartition("/")[0] for path in paths}
    if not folders or "" in folders or any(f"/{path}".find("/.") >= 0 for path in paths):
        return ""  # Ultralytics skips hidden folders
    return os.path.commonpath(folders)


def _write_list(target: Path, paths: list[str]) -> None:
    for path in paths:
        if path.splitlines() != [path] or path != path.strip():
            raise InputError(
                f"{path!r} cannot be written in a list of images.",
                "Its name contains a line break, or starts or ends with a space.",
                "Rename the file and add the dataset again.",
            )
    target.write_text("".join(f"./{path}\n" for path in paths), encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _storage_error(out: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(
        f"The export to {out} was not written.",
        "The disk is full." if full else (error.strerror or str(error)),
        "Free some space, or choose another folder. Nothing was left behind.",
    )
