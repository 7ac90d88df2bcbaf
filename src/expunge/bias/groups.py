# SPDX-License-Identifier: Apache-2.0
"""Groups of samples, or of boxes, from what is known of samples and of the people in them.

Values are sensitive personal data. They are never in an error, and not in what these objects print of
themselves; whoever asked for a figure by group gets them as the names of the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from expunge.data.types import Sample
from expunge.errors import InputError

MISSING = "(missing)"
"""The group of which a column says nothing."""
MIXED = "(mixed)"
"""The group of samples that show people of different groups."""
APART = (MISSING, MIXED)
AND = " & "
MINIMUM = 10
"""Subjects (samples, where there are no subjects) below which a group gets no figure."""

Values = Mapping[str, str]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Attributes:
    """What is known, by column.

    Attributes:
        columns: The columns, in the order of their table.
        pairs: By sample's path and subject: what ``subjects.csv`` says of the pair.
        samples: By sample's path.
        subjects: By subject's id.
        boxes: By sample's path and the box's place (from 1) among the boxes of its label file.
    """

    columns: tuple[str, ...]
    pairs: Mapping[tuple[str, str], Values] = field(default_factory=dict, repr=False)
    samples: Mapping[str, Values] = field(default_factory=dict, repr=False)
    subjects: Mapping[str, Values] = field(default_factory=dict, repr=False)
    boxes: Mapping[tuple[str, int], Values] = field(default_factory=dict, repr=False)

    def of_sample(self, sample: Sample, column: str) -> str:
        """Return a sample's value: its own, or that of all people in it; else MIXED or MISSING."""
        own = self.samples.get(sample.path, {}).get(column)
        if own:
            return own
        values = {
            self.pairs.get((sample.path, s), {}).get(column) or self.subjects.get(s, {}).get(column) or ""
            for s in sample.subjects
        }
        if len(values) > 1:
            return MIXED
        return next(iter(values), "") or MISSING

    def of_box(self, sample: Sample, number: int, column: str) -> str:
        """Return a box's value: its own, or that of its sample."""
        own = self.boxes.get((sample.path, number), {}).get(column)
        return own or self.of_sample(sample, column)


@dataclass(frozen=True)
class Groups:
    """Which group each of N things is in.

    Attributes:
        columns: What they are grouped by.
        names: Of the groups, sorted; those of unknown or mixed values last.
        index: (N,) the group's number.
        apart: Numbers of the groups in which a value is missing or mixed: shown, and compared with none.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...] = field(repr=False)
    index: NDArray[np.int64] = field(repr=False)
    apart: frozenset[int]

    def __len__(self) -> int:
        """Return the number of things."""
        return len(self.index)

    def number(self, name: str) -> int:
        """Return a group's number.

        Raises:
            InputError: If nothing is in such a group. The message names no other group.
        """
        if name not in self.names:
            raise InputError(
                "There is no such group.",
                f"No sample that was looked at has that value of {' and '.join(self.columns)}.",
                "See the groups with: expunge bias measure",
            )
        return self.names.index(name)

    def members(self, number: int) -> NDArray[np.int64]:
        """Return the places of those in a group."""
        return np.flatnonzero(self.index == number)


@dataclass(frozen=True)
class Size:
    """How much is known of a group.

    Attributes:
        things: How many samples (or boxes).
        subjects: How many different people are in them.
        units: What may be drawn independently: the people, and every thing that shows nobody.
    """

    things: int
    subjects: int
    units: int

    @property
    def word(self) -> str:
        """What the units are."""
        return "subjects" if self.subjects else "samples"


def group_samples(samples: Sequence[Sample], attributes: Attributes, columns: Sequence[str]) -> Groups:
    """Group samples by one column, or by the combinations of several.

    Raises:
        InputError: If no column is named, one is named twice, or one is unknown.
    """
    check_columns(attributes, columns)
    return _groups(columns, [tuple(attributes.of_sample(s, c) for c in columns) for s in samples])


def group_boxes(
    samples: Sequence[Sample], boxes: Sequence[int], attributes: Attributes, columns: Sequence[str]
) -> Groups:
    """Group the boxes of samples.

    Args:
        samples: Whose boxes.
        boxes: (len(samples),) how many boxes each has.
        attributes: What is known.
        columns: One, or several for their combinations.

    Returns:
        The groups of all boxes, sample by sample, in the order of the label files.

    Raises:
        InputError: See :func:`group_samples`.
    """
    check_columns(attributes, columns)
    keys = [
        tuple(attributes.of_box(s, number, c) for c in columns)
        for s, count in zip(samples, boxes, strict=True)
        for number in range(1, count + 1)
    ]
    return _groups(columns, keys)


def check_columns(attributes: Attributes, columns: Sequence[str]) -> None:
    """Raise an error unless these are columns to group by.

    Raises:
        InputError: If not.
    """
    if not columns or len(set(columns)) != len(columns):
        raise InputError(
            "The groups are not named.", "A column is missing, or named twice.", "Give --group COLUMN."
        )
    unknown = [c for c in columns if c not in attributes.columns]
    if unknown:
        raise InputError(
            f"There is no column {unknown[0]!r} to group by.",
            f"Known columns: {', '.join(attributes.columns) or 'none'}.",
            "Columns come from the table given to `expunge data add --subjects`, or from --groups FILE.",
        )


def sizes(groups: Groups, samples: Sequence[Sample]) -> list[Size]:
    """Return the size of every group.

    Args:
        groups: Of N things.
        samples: (N,) the sample of each; of boxes, the sample that each is in.
    """
    found = []
    for number in range(len(groups.names)):
        members = [samples[i] for i in groups.members(number)]
        people = {subject for sample in members for subject in sample.subjects}
        alone = len({sample.path for sample in members if not sample.subjects})
        found.append(Size(len(members), len(people), len(people) + alone))
    return found


def large_enough(groups: Groups, found: Sequence[Size], minimum: int = MINIMUM) -> list[int]:
    """Return the numbers of the groups that are compared: large enough, and with known values."""
    return [g for g, size in enumerate(found) if g not in groups.apart and size.units >= minimum]


def too_small(size: Size, minimum: int) -> str:
    """Return the sentence that stands in place of a figure."""
    return f"no figure: it has fewer than {minimum} {size.word}, which say too little and may tell of people"


def merged(first: Attributes, second: Attributes) -> Attributes:
    """Return both together; where both know something, ``second`` does."""
    columns = tuple(dict.fromkeys([*first.columns, *second.columns]))
    return Attributes(
        columns,
        _both(first.pairs, second.pairs),
        _both(first.samples, second.samples),
        _both(first.subjects, second.subjects),
        _both(first.boxes, second.boxes),
    )


def _both(first: Mapping[Key, Values], second: Mapping[Key, Values]) -> dict[Key, Values]:
    return {key: {**first.get(key, {}), **second.get(key, {})} for key in [*first, *second]}


def _groups(columns: Sequence[str], keys: Iterable[tuple[str, ...]]) -> Groups:
    keys = list(keys)
    known = sorted(set(keys), key=lambda key: (any(v in APART for v in key), key))
    number = {key: i for i, key in enumerate(known)}
    return Groups(
        tuple(columns),
        tuple(AND.join(key) for key in known),
        np.array([number[key] for key in keys], dtype=np.int64),
        frozenset(i for i, key in enumerate(known) if any(v in APART for v in key)),
    )
