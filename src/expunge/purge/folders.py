# SPDX-License-Identifier: Apache-2.0
"""Finds files of Ultralytics trainings and copies of superseded weights in folders named by the user.

Common file names need further evidence: ``results.csv``, ``args.yaml`` and ``labels.jpg`` count only in a run
folder (its ``args.yaml`` has ``task:`` and ``mode:``), a ``.cache`` only with the magic bytes of Ultralytics'
label caches, a ``.npy`` only beside the image of which it is the decoded form.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from expunge.data.listing import IMAGE_SUFFIXES
from expunge.errors import InputError
from expunge.purge.erased import NUMPY, ErasedImages
from expunge.purge.kinds import Leftover
from expunge.purge.tree import Entry, FileChanged, FolderListing, Root, open_entry, walk

WORKSPACE = b".expunge"
PICTURES = re.compile(rb"train_batch\d+\.jpg|val_batch\d+_(?:labels|pred)\.jpg")
OF_RUNS = re.compile(rb"labels(?:_correlogram)?\.jpg|results\.csv|args\.yaml")
IMAGES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)
MODELS = frozenset((b"pt", b"onnx", b"torchscript", b"xml", b"bin", b"safetensors"))
HEAD_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20


def named_roots(folders: Sequence[Path]) -> list[Root]:
    """Return the folders to search, without those inside another one.

    Raises:
        InputError: If a path is not a folder.
    """
    roots: dict[bytes, Root] = {}
    for folder in folders:
        try:
            root = Root.of(folder)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be searched.", error.strerror or str(error), "Name a folder that exists."
            ) from error
        roots[root.path] = root
    inside = {a for a in roots for b in roots if a != b and a.startswith(b.rstrip(b"/") + b"/")}
    return [root for path, root in sorted(roots.items()) if path not in inside]


def find_in_folders(
    roots: Sequence[Root],
    skip: Sequence[bytes],
    erased: bool,
    known: Mapping[str, tuple[str, tuple[str, ...]]],
    images: ErasedImages,
) -> Iterator[Leftover]:
    """Yield the leftovers in folders named by the user.

    Args:
        roots: The folders.
        skip: Real paths of folders to skip (the workspace, which is searched otherwise).
        erased: Whether anything was ever erased; if not, images and caches of trainings are no leftovers.
        known: Label of each superseded version and ids of the requests whose data it holds, by SHA-256 of its
            files.
        images: The digests of erased images.
    """
    skipped = frozenset(skip)

    def enter(folder: Entry) -> bool:
        return folder.name != WORKSPACE and folder.path not in skipped

    for root in roots:
        if root.path in skipped or root.path.endswith(b"/" + WORKSPACE):
            continue
        for found in walk(root, (), enter):
            yield from _training_files(found) if erased else ()
            yield from _weight_copies(found, known) if known else ()
            yield from filter(None, map(images.copy_of, found.files)) if erased else ()


def _training_files(found: FolderListing) -> Iterator[Leftover]:
    """Yield the files of a folder that an Ultralytics training wrote and that may show erased data."""
    names = {entry.name: entry for entry in found.files}
    run = b"args.yaml" in names and _is_run(names[b"args.yaml"])
    images = {stem for stem, _, suffix in (n.rpartition(b".") for n in names) if suffix.lower() in IMAGES}
    for name, entry in names.items():
        if PICTURES.fullmatch(name):
            yield Leftover(entry, "run", "shows pictures of a training or a validation")
        elif run and OF_RUNS.fullmatch(name):
            yield Leftover(entry, "run", "belongs to a training that may have seen what was erased")
        elif name.endswith(b".cache") and read_head(entry, len(NUMPY)) == NUMPY:
            yield Leftover(entry, "cache", "a label cache: names and labels of every picture")
        elif name.endswith(b".npy") and name[:-4] in images and read_head(entry, len(NUMPY)) == NUMPY:
            yield Leftover(entry, "cache", "the decoded form of the picture beside it")


def _is_run(entry: Entry) -> bool:
    """Return whether an ``args.yaml`` is that of an Ultralytics run."""
    text = read_head(entry, HEAD_BYTES)
    return all(re.search(rb"^" + key + rb":", text, re.MULTILINE) for key in (b"task", b"mode"))


def _weight_copies(
    found: FolderListing, known: Mapping[str, tuple[str, tuple[str, ...]]]
) -> Iterator[Leftover]:
    for entry in found.files:
        if entry.name.rpartition(b".")[2].lower() in MODELS:
            label, requests = known.get(file_sha256(entry), ("", ()))
            if label:
                yield Leftover(entry, "copy", f"a copy of {label}, which is superseded", requests)


def read_head(entry: Entry, count: int) -> bytes:
    """Return the first ``count`` bytes of a file; empty if it cannot be read."""
    try:
        with open_entry(entry) as handle:
            return os.read(handle, count)
    except (OSError, FileChanged):
        return b""


def file_sha256(entry: Entry) -> str:
    """Return the SHA-256 of a file's bytes in hex; empty if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_entry(entry) as handle:
            while chunk := os.read(handle, CHUNK_BYTES):
                digest.update(chunk)
    except (OSError, FileChanged):
        return ""
    return digest.hexdigest()
