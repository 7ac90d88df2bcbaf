# SPDX-License-Identifier: Apache-2.0
"""Match names that differ only in Unicode normalisation, which file systems and editors may change."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property

from expunge.data.types import SubjectTable
from expunge.errors import InputError


def forms_of(name: str) -> tuple[str, ...]:
    """Return a name unchanged, followed by its NFC and NFD forms if they differ."""
    if name.isascii():
        return (name,)
    return tuple(
        dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
    )


class SampleNames:
    """The paths of a dataset's samples, matched also in another normal form or with backslashes.

    Args:
        paths: Paths of the samples.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._given = paths
        self._matched: set[str] = set()

    def __contains__(self, path: str) -> bool:
        """Return whether a sample has exactly this path."""
        return path in self._paths

    def find(self, path: str) -> str:
        """Return the sample's path that matches a given path, or the given path if none matches.

        Raises:
            InputError: If several samples match in another normal form.
        """
        if path in self._paths:
            return path
        if (with_slashes := path.replace("\\", "/")) in self._paths:  # a path written on Windows
            return with_slashes
        if path.isascii():
            return path
        found = self._by_form.get(unicodedata.normalize("NFC", path), [])
        if len(found) > 1:
            raise InputError(
                f"{path!r} could mean {len(found)} samples.",
                "Their names look the same and differ in Unicode normalisation (NFC, NFD).",
                "Rename one of the files, or write the name exactly as that of the file.",
            )
        if not found:
            return path
        self._matched.add(path)
        return found[0]

    def renamed(self, table: SubjectTable) -> SubjectTable:
        """Return a table whose paths are replaced by the matching paths of the dataset."""
        if all(path in self._paths for path in table.subjects):
            return table
        subjects: dict[str, tuple[str, ...]] = {}
        for path, names in table.subjects.items():
            match = self.find(path)
            subjects[match] = tuple(sorted({*subjects.get(match, ()), *names}))
        groups: dict[tuple[str, str], dict[str, str]] = {}
        for (path, subject), values in table.groups.items():
            groups.setdefault((self.find(path), subject), {}).update(values)
        return replace(table, subjects=subjects, groups=groups)

    def notes(self) -> list[str]:
        """Return a note if names were matched in another normal form."""
        if not self._matched:
            return []
        count = len(self._matched)
        return [
            f"{count} names were matched to files whose names differ in Unicode normalisation (NFC, NFD)."
        ]

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self._given)

    @cached_property
    def _by_form(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            if not path.isascii():
                found.setdefault(unicodedata.normalize("NFC", path), []).append(path)
        return found
