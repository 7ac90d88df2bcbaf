# SPDX-License-Identifier: Apache-2.0
"""What somebody names, as rows of a data set: a list of paths, ids of people, or classes."""

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
from expunge.user_files import read_text

SHOWN = 5


@dataclass(frozen=True)
class Selected:
    """What is to be forgotten.

    Attributes:
        paths: Every sample that goes, copies included, in whichever split.
        subjects: The people named.
        classes: The classes named.
    """

    paths: frozenset[str]
    subjects: frozenset[str] = frozenset()
    classes: tuple[str, ...] = ()

    @property
    def goal(self) -> str:
        """``class``, ``subject`` or ``sample``."""
        return "class" if self.classes else "subject" if self.subjects else "sample"


def read_list(forget: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the entries of a list, or of a text file that has one in each line.

    Raises:
        InputError: If the file cannot be read, or nothing is in it.
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
    found = [entry.strip() for entry in entries if entry.strip()]
    if not found:
        raise InputError("The forget set is empty.", "The list names nothing.", "Name samples or people.")
    return found


def select(scan: Scan, entries: Iterable[str], classes: Sequence[str] = ()) -> Selected:
    """Find what is meant in a data set.

    Args:
        scan: The data set, with its subjects where they are known.
        entries: Paths (relative to the data set's root or the current folder, or absolute), ids of people.
        classes: Names of classes.

    Raises:
        InputError: If something is unknown, lies outside the data set, or could mean two things.
    """
    paths = {sample.path for sample in scan.samples}
    people = {subject for sample in scan.samples for subject in sample.subjects}
    chosen, named, unknown, outside = set[str](), set[str](), list[str](), list[str]()
    for entry in entries:
        found = [form for path in _readings(scan.root, entry) for form in forms_of(path) if form in paths]
        person = next((form for form in forms_of(entry) if form in people), None)
        if found and person is not None:
            raise InputError(
                f"{entry!r} is both a person and a sample.", "", "Rename one of them, or give its full path."
            )
        if person is not None:
            named.add(person)
        elif found:
            chosen.add(found[0])
        elif os.path.isabs(entry) and not _readings(scan.root, entry):
            outside.append(entry)
        else:
            unknown.append(entry)
    for what, which in (("outside the data set", outside), ("unknown", unknown)):
        if which:
            shown = ", ".join(repr(e) for e in which[:SHOWN]) + (" …" if len(which) > SHOWN else "")
            raise InputError(
                f"{len(which)} of the entries to forget are {what}: {shown}.",
                f"The data set has {len(paths)} samples"
                + (f" and {len(people)} people." if people else ", and no table of people was given."),
                "Give paths relative to the data set's root, or ids from the table of people.",
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
    """Return the samples that show one of the classes.

    Raises:
        InputError: If the data set has no such class, no sample shows it, or it is named twice.
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


def _readings(root: Path, entry: str) -> list[str]:
    """What an entry may mean as a path relative to the root; none if it lies outside."""
    found = [] if os.path.isabs(entry) else [posixpath.normpath(entry)]
    for base in (root, root.resolve()):
        relative = os.path.relpath(os.path.abspath(entry), base)
        if not relative.startswith(".."):
            found.append(Path(relative).as_posix())
    return found
