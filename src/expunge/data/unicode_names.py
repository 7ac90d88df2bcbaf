# SPDX-License-Identifier: Apache-2.0
"""Finds names that are equal but for Unicode normalisation, which file systems and editors change."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property

from expunge.data.types import SubjectTable
from expunge.errors import InputError


def forms_of(name: str) -> tuple[str, ...]:
    """Return a name as it stands, and its other normal forms."""
    if name.isascii():
        return (name,)
    return tuple(
        dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
    )


class SampleNames:
    """The paths of a data set's samples, to be found under another normal form or with backslashes too.

    Args:
        paths: The paths.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._given = paths
        self._matched: set[str] = set()

    def __contains__(self, path: str) -> bool:
        """Say whether there is a sample of exactly this path."""
        return path in self._paths

    def find(self, path: str) -> str:
        """Return the sample's path that a given path means, or the given path where there is none.

        Raises:
            InputError: If two samples differ from it only by normalisation.
        """
        if path in self._paths:
            return path
        if (turned := path.replace("\\", "/")) in self._paths:  # as Windows writes it
            return turned
        if path.isascii():
            return path
        found = self._by_form.get(unicodedata.normalize("NFC", path), [])
        if len(found) > 1:
            raise InputError(
                f"{path!r} could mean {len(found)} samples.",
                "Their names look the same and differ in Unicode normalisation (NFC, NFD).",
                "Rename one of the files, or write the name exactly as the file has it.",
            )
        if not found:
            return path
        self._matched.add(path)
        return found[0]

    def renamed(self, table: SubjectTable) -> SubjectTable:
        """Return a table with the paths that the data set has."""
        if all(path in self._paths for path in table.subjects):
            return table
        subjects: dict[str, tuple[str, ...]] = {}
        for path, who in table.subjects.items():
            own = self.find(path)
            subjects[own] = tuple(sorted({*subjects.get(own, ()), *who}))
        groups: dict[tuple[str, str], dict[str, str]] = {}
        for (path, subject), values in table.groups.items():
            groups.setdefault((self.find(path), subject), {}).update(values)
        return replace(table, subjects=subjects, groups=groups)

    def notes(self) -> list[str]:
        """Return a note where names were matched under another normal form."""
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
