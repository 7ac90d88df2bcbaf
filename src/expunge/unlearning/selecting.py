# SPDX-License-Identifier: Apache-2.0
"""Resolve a selection (paths, ids of people, or classes) to rows of a dataset."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.data.types import DatasetConfig, Sample, Scan
from expunge.data.unicode_names import forms_of
from expunge.data.yolo import label_classes, label_file
from expunge.errors import InputError
from expunge.storage.user_files import read_text

MAX_LISTED = 5  # entries that a message lists


@dataclass(frozen=True)
class Selected:
    """The samples, people and classes to forget.

    Attributes:
        paths: All samples to erase, byte-identical copies included, in any split.
        subjects: The selected people.
        classes: The selected classes.
    """

    paths: frozenset[str]
    subjects: frozenset[str] = frozenset()
    classes: tuple[str, ...] = ()

    @property
    def goal(self) -> str:
        """``class``, ``subject`` or ``sample``."""
        return "class" if self.classes else "subject" if self.subjects else "sample"


def read_list(forget: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the entries of a list, or of a text file with one entry per line.

    Raises:
        InputError: If the file cannot be read, or there is no entry.
    """
    if not isinstance(forget, (str, Path)):
        entries = [str(entry) for entry in forget]
    elif Path(forget).suffix == ".txt":
        try:
            entries = read_text(forget).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{forget} cannot be read.", type(error).__name__, "Check the path.") from error
    else:
        entries = [str(forget)]
    stripped = [entry.strip() for entry in entries if entry.strip()]
    if not stripped:
        raise InputError("The forget set is empty.", "The list has no entry.", "Name samples or people.")
    return stripped


def select(scan: Scan, entries: Iterable[str], classes: Sequence[str] = ()) -> Selected:
    """Return the samples of a dataset that entries and classes select.

    Args:
        scan: The dataset, with its subjects if they are known.
        entries: Paths (relative to the dataset's root or the current folder, or absolute), or ids of people.
        classes: Names of classes.

    Raises:
        InputError: If an entry is unknown, lies outside the dataset, or is ambiguous.
    """
    paths = {sample.path for sample in scan.samples}
    people = {subject for sample in scan.samples for subject in sample.subjects}
    chosen, named, unknown, outside = set[str](), set[str](), list[str](), list[str]()
    for entry in entries:
        found = [form for path in _candidates(scan.root, entry) for form in forms_of(path) if form in paths]
        person = next((form for form in forms_of(entry) if form in people), None)
        if found and person is not None:
            raise InputError(
                f"{entry!r} is both a person and a sample.", "", "Rename one of them, or give its full path."
            )
        if person is not None:
            named.add(person)
        elif found:
            chosen.add(found[0])
        elif os.path.isabs(entry) and not _candidates(scan.root, entry):
            outside.append(entry)
        else:
            unknown.append(entry)
    for problem, rejected in (("outside the dataset", outside), ("unknown", unknown)):
        if rejected:
            listed = ", ".join(repr(e) for e in rejected[:MAX_LISTED])
            listed += " …" if len(rejected) > MAX_LISTED else ""
            raise InputError(
                f"{len(rejected)} of the entries to forget are {problem}: {listed}.",
                f"The dataset has {len(paths)} samples"
                + (f" and {len(people)} people." if people else ", and no table of people was given."),
                "Give paths relative to the dataset's root, or ids from the table of people.",
            )
    chosen |= {s.path for s in scan.samples if named.intersection(s.subjects)}
    chosen |= of_classes(scan.samples, scan.config, scan.root, classes)
    if not chosen:
        raise InputError("The forget set is empty.", "Nothing was named.", "Name samples, people or classes.")
    images = {s.image_digest for s in scan.samples if s.path in chosen}
    copies = {s.path for s in scan.samples if s.image_digest in images}
    return Selected(frozenset(copies), frozenset(named), tuple(classes))


def of_classes(
    samples: Iterable[Sample], config: DatasetConfig, root: Path, classes: Sequence[str]
) -> set[str]:
    """Return the paths of the samples that show one of the classes.

    Raises:
        InputError: If a class is unknown, no sample shows it, or it is named twice.
    """
    unknown = [name for name in classes if name not in config.names]
    if unknown:
        raise InputError(
            f"There is no class {unknown[0]!r}.",
            f"The classes are: {', '.join(config.names[:20])}{' …' if len(config.names) > 20 else ''}.",
            "Check the name.",
        )
    if len(set(classes)) < len(classes):
        raise InputError(
            "A class is named twice.", f"The classes are: {', '.join(classes)}.", "Name each once."
        )
    found: dict[int, set[str]] = {config.names.index(name): set() for name in classes}
    for sample in samples if classes else ():
        for index in found.keys() & shown_classes(sample, config, root):
            found[index].add(sample.path)
    if empty := [config.names[index] for index, paths in found.items() if not paths]:
        raise InputError(
            f"No sample shows the class {empty[0]!r}.", "There is nothing of it to forget.", "Leave it out."
        )
    return set[str]().union(*found.values())


def shown_classes(sample: Sample, config: DatasetConfig, root: Path) -> set[int]:
    """Return the indices of the classes that a sample shows."""
    if config.kind == "folders":
        return {config.names.index(sample.class_name)} if sample.class_name in config.names else set()
    return label_classes(label_file(root, sample.path)) if sample.label_digest else set()


def _candidates(root: Path, entry: str) -> list[str]:
    """Return the paths relative to the root that an entry may denote; none if it lies outside."""
    found = [] if os.path.isabs(entry) else [posixpath.normpath(entry)]
    for base in (root, root.resolve()):
        relative = os.path.relpath(os.path.abspath(entry), base)
        if not relative.startswith(".."):
            found.append(Path(relative).as_posix())
    return found
