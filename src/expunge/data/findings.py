# SPDX-License-Identifier: Apache-2.0
"""Findings of a scan: files that cannot be used, and files that Ultralytics reads differently."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expunge.errors import InputError

MAX_LISTED = 20  # problems listed in a message; a file lists all
MAX_NAMED = 5  # files named in its first line
PREFIX = "expunge-unreadable-"


@dataclass(frozen=True, slots=True)
class Problem:
    """A sample that cannot be used.

    Attributes:
        path: The sample's path.
        split: The sample's split.
        place: The affected image, or the label file and line.
        reason: The reason, as a sentence.
        of_image: Whether the problem is in the image and not in its label.
    """

    path: str
    split: str
    place: str
    reason: str
    of_image: bool

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class ReaderDifference:
    """A kind of file that expunge and Ultralytics read differently.

    Attributes:
        name: Short name.
        ours: How expunge treats the files.
        theirs: How Ultralytics treats them.
        reason: Why expunge differs.
    """

    name: str
    ours: str
    theirs: str
    reason: str


# docs/data.md lists the same differences.
DIFFERENCES = {
    difference.name: difference
    for difference in (
        ReaderDifference(
            "jpeg-end",
            "JPEG files with bytes behind their end are read as they are",
            "Ultralytics decodes them and writes them anew",
            "no file of yours is changed",
        ),
        ReaderDifference(
            "label-beside-link",
            "label files beside a linked folder of images are read",
            "Ultralytics looks only beside the folder that the link leads to, where none is",
            "labels that are there are not lost",
        ),
        ReaderDifference(
            "hidden",
            "hidden images and class folders (names that begin with a dot) are left out",
            "Ultralytics reads them in a classification folder",
            "they are what other programs left behind",
        ),
    )
}
DUPLICATE_ROWS = "duplicate-rows"  # dropped by expunge and by Ultralytics


@dataclass(frozen=True)
class Findings:
    """Findings of a scan besides the samples.

    Attributes:
        problems: Unusable samples of val and test, which stay in the dataset.
        left_out: Unusable samples that are not added to the dataset.
        counts: Number of files for each difference; number of rows for ``DUPLICATE_ROWS``.
        empty_labels: Digests of label files without a row.
        undecoded: Number of images whose pixels were never decoded.
    """

    problems: tuple[Problem, ...] = ()
    left_out: tuple[Problem, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    empty_labels: frozenset[str] = frozenset()
    undecoded: int = 0

    def warnings(self) -> Iterator[str]:
        """Yield the findings as warnings for the user."""
        if self.left_out:
            yield describe(f"{len(self.left_out)} samples were left out", self.left_out)
        if self.problems:
            count = f"{len(self.problems)} samples of {_splits(self.problems)}"
            yield describe(
                f"{count} cannot be read, and are left out when a model is measured", self.problems
            )
        for name, difference in DIFFERENCES.items():
            if number := self.counts.get(name):
                yield f"{difference.ours} ({number}). {difference.theirs}; here {difference.reason}."
        if rows := self.counts.get(DUPLICATE_ROWS):
            yield f"{rows} label rows are duplicates within their file; each counts once, as in Ultralytics."
        if self.undecoded:
            yield f"{self.undecoded} images were not decoded: damaged ones are only found when they are used."


def describe(what: str, problems: Sequence[Problem]) -> str:
    """Return a heading followed by the first problems. If there are more, a file lists all of them."""
    return "\n".join((f"{what}:", *_first_lines(problems)))


def refuse_unusable(problems: Sequence[Problem], total: int) -> None:
    """Raise an error if there are unusable samples.

    Args:
        problems: The unusable samples.
        total: Number of all samples.

    Raises:
        InputError: If there are problems; the message lists the first ones and a file with all of them.
    """
    if not problems:
        return
    kind = "images cannot be read" if all(p.of_image for p in problems) else "samples cannot be used"
    named = ", ".join(p.place for p in problems[:MAX_NAMED])
    raise InputError(
        f"{len(problems)} of {total} {kind}: {named}{' …' if len(problems) > MAX_NAMED else ''}",
        "\n".join(_first_lines(problems)),
        "Repair or remove these files, or add the rest with: expunge data add … --skip-unreadable."
        " That keeps those of val and test for erasures, and measures without them. Nothing was changed.",
    )


def _first_lines(problems: Sequence[Problem]) -> Iterator[str]:
    yield from (str(problem) for problem in problems[:MAX_LISTED])
    if len(problems) > MAX_LISTED:
        handle, file = tempfile.mkstemp(prefix=PREFIX, suffix=".txt")  # readable by its owner only
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.writelines(f"{problem}\n" for problem in problems)
        yield f"… and {len(problems) - MAX_LISTED} more. All of them: {file}"


def delete_lists() -> None:
    """Delete the temporary lists of unusable files, because they hold paths."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*.txt"):
        with contextlib.suppress(OSError):  # a list of another user
            file.unlink()


def _splits(problems: Sequence[Problem]) -> str:
    return " and ".join(sorted({problem.split for problem in problems}, reverse=True))
