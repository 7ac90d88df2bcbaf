# SPDX-License-Identifier: Apache-2.0
"""Locate label files: beside the listed image path, and beside the targets of linked folders.

Ultralytics follows the links of a split's folder before it looks for labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from expunge.data.labels import label_path


class LabelFiles:
    """Locates the label files of a dataset's images. Link targets are resolved once per folder.

    Args:
        root: Folder of the dataset.
        folders: Absolute paths of the folders named as splits; only their links are followed. If None, the
            links of all folders are followed.
    """

    def __init__(self, root: Path | str, folders: Iterable[str] | None = None) -> None:
        self._root = str(root)
        self._folders = None if folders is None else frozenset(folders)
        self._linked: dict[str, tuple[str, ...]] = {}

    def plain(self, path: str) -> str:
        """Return the path of an image's label without following links."""
        return label_path(f"{self._root}/{path}")

    def linked(self, path: str) -> tuple[str, ...]:
        """Return the further possible paths of an image's label, beside the targets of linked folders."""
        folder, _, name = path.rpartition("/")
        if folder not in self._linked:
            self._linked[folder] = self._targets(folder)
        return tuple(label_path(f"{target}/{name}") for target in self._linked[folder])

    def existing(self, path: str) -> list[str]:
        """Return the existing label paths of an image, each file once. Broken links are included."""
        linked = self.linked(path)
        places = (self.plain(path), *linked)
        if not linked:
            return [place for place in places if os.path.lexists(place)]
        files = {os.path.realpath(place): place for place in reversed(places) if os.path.lexists(place)}
        return [place for place in places if files.get(os.path.realpath(place)) == place]

    def _targets(self, folder: str) -> tuple[str, ...]:
        """Return the paths of a folder after following the links of it or of one of its parents."""
        parts = [part for part in folder.split("/") if part]
        plain = "/".join((self._root, *parts))
        found = []
        for depth in range(len(parts) + 1):
            above = "/".join((self._root, *parts[:depth]))
            if self._folders is not None and above not in self._folders:
                continue
            real = os.path.realpath(above)
            target = "/".join((real.rstrip("/"), *parts[depth:]))
            if target != plain and target not in found:
                found.append(target)
        return tuple(found)


def find_label(root: Path, path: str) -> Path:
    """Return the path of an image's label, or its expected path if there is no label."""
    places = LabelFiles(root)
    plain = places.plain(path)
    if os.path.isfile(plain):
        return Path(plain)
    return Path(next(iter(places.existing(path)), plain))
