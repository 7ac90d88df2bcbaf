# SPDX-License-Identifier: Apache-2.0
"""What the reading of a dataset found: files that cannot be used, and what Ultralytics reads otherwise."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expunge.errors import InputError

LISTED = 20  # in a message; a file has the rest
NAMED = 5  # in its first line
PREFIX = "expunge-unreadable-"


@dataclass(frozen=True, slots=True)
class Problem:
    """A sample that cannot be used.

    Attributes:
        path: The sample's path.
        split: Its split.
        place: The image, or the label file with the line.
        reason: What is wrong, as a sentence.
        of_image: Whether the image is meant, and not its label.
    """

    path: str
    split: str
    place: str
    reason: str
    of_image: bool

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class Difference:
    """A kind of file that Ultralytics reads in another way than expunge does.

    Attributes:
        name: A short name.
        ours: What expunge does.
        theirs: What Ultralytics does.
        reason: Why the difference stays.
    """

    name: str
    ours: str
    theirs: str
    reason: str


# docs/data.md lists the same ones.
DIFFERENCES = {
    difference.name: difference
    for difference in (
        Difference(
            "jpeg-end",
            "JPEG files with bytes behind their end are read as they are",
            "Ultralytics decodes them and writes them anew",
            "no file of yours is changed",
        ),
        Difference(
            "label-beside-link",
            "label files beside a linked folder of images are read",
            "Ultralytics looks only beside the folder that the link leads to, where none is",
            "labels that are there are not lost",
        ),
        Difference(
            "hidden",
            "hidden images and class folders (names that begin with a dot) are left out",
            "Ultralytics reads them in a classification folder",
            "they are what other programs left behind",
        ),
    )
}
DUPLICATE_ROWS = "duplicate-rows"  # dropped by both


@dataclass(frozen=True)
class Findings:
    """What was found besides the samples.

    Attributes:
        problems: Samples of val and test that stay in the dataset, and cannot be used.
        left_out: Samples that are not taken into the dataset.
        counts: Files by the name of a difference; rows for duplicates.
        empty_labels: Digests of label files without a row.
        undecoded: Images whose pixels were not decoded, although nothing says that they can be.
    """

    problems: tuple[Problem, ...] = ()
    left_out: tuple[Problem, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    empty_labels: frozenset[str] = frozenset()
    undecoded: int = 0

    def warnings(self) -> Iterator[str]:
        """Yield what a person should know of it."""
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
            yield f"{rows} label rows are there twice in their file; each counts once, as in Ultralytics."
        if self.undecoded:
            yield f"{self.undecoded} images were not decoded: damaged ones are found when they are used."


def describe(what: str, problems: Sequence[Problem]) -> str:
    """Return a sentence with the first problems below it; where there are more, a file lists all of them."""
    return "\n".join((f"{what}:", *_first(problems)))


def refuse(problems: Sequence[Problem], total: int) -> None:
    """Raise an error for samples that cannot be used, if there are any.

    Raises:
        InputError: With the first ones, their number, and a file that lists all of them.
    """
    if not problems:
        return
    kind = "images cannot be read" if all(p.of_image for p in problems) else "samples cannot be used"
    named = ", ".join(p.place for p in problems[:NAMED])
    raise InputError(
        f"{len(problems)} of {total} {kind}: {named}{' …' if len(problems) > NAMED else ''}",
        "\n".join(_first(problems)),
        "Repair or remove these files, or add the rest with: expunge data add … --skip-unreadable."
        " That keeps those of val and test for erasures, and measures without them. Nothing was changed.",
    )


def _first(problems: Sequence[Problem]) -> Iterator[str]:
    yield from (str(problem) for problem in problems[:LISTED])
    if len(problems) > LISTED:
        handle, file = tempfile.mkstemp(prefix=PREFIX, suffix=".txt")  # for its owner alone
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.writelines(f"{problem}\n" for problem in problems)
        yield f"… and {len(problems) - LISTED} more. All of them: {file}"


def delete_lists() -> None:
    """Delete the files in which unusable files were listed: they hold paths."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*.txt"):
        with contextlib.suppress(OSError):  # another user's
            file.unlink()


def _splits(problems: Sequence[Problem]) -> str:
    return " and ".join(sorted({problem.split for problem in problems}, reverse=True))
