# SPDX-License-Identifier: Apache-2.0
"""Group samples or boxes by the attributes of samples and of the people in them.

Values are sensitive personal data. They appear in no error message and in no ``repr``; results by group have
them as names of the groups.
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
"""The group of samples without a value."""
MIXED = "(mixed)"
"""The group of samples whose people have different values."""
APART = (MISSING, MIXED)
AND = " & "
MINIMUM = 10
"""Minimum of subjects (samples, if there are no subjects) for a figure."""

Values = Mapping[str, str]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Attributes:
    """Attributes of samples, subjects and boxes: values by column.

    Attributes:
        columns: The columns, in the order of their table.
        pairs: Values in ``subjects.csv``, by sample path and subject.
        samples: Values by sample path.
        subjects: Values by subject id.
        boxes: Values by sample path and the box's place (from 1) in its label file.
    """

    columns: tuple[str, ...]
    pairs: Mapping[tuple[str, str], Values] = field(default_factory=dict, repr=False)
    samples: Mapping[str, Values] = field(default_factory=dict, repr=False)
    subjects: Mapping[str, Values] = field(default_factory=dict, repr=False)
    boxes: Mapping[tuple[str, int], Values] = field(default_factory=dict, repr=False)

    def of_sample(self, sample: Sample, column: str) -> str:
        """Return a sample's value: its own, or the common value of its people; else MIXED or MISSING."""
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
        """Return a box's value: its own, or its sample's."""
        own = self.boxes.get((sample.path, number), {}).get(column)
        return own or self.of_sample(sample, column)


@dataclass(frozen=True)
class Groups:
    """The groups of N units (samples or boxes).

    Attributes:
        columns: The columns of the grouping.
        names: Names of the groups, sorted; groups with missing or mixed values last.
        index: (N,) number of each unit's group.
        apart: Numbers of the groups with missing or mixed values; they are reported but not compared.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...] = field(repr=False)
    index: NDArray[np.int64] = field(repr=False)
    apart: frozenset[int]

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.index)

    def number(self, name: str) -> int:
        """Return a group's number.

        Raises:
            InputError: If there is no such group. The message names no other group.
        """
        if name not in self.names:
            raise InputError(
                "There is no such group.",
                f"No validation sample has that value of {' and '.join(self.columns)}.",
                "See the groups with: expunge bias measure",
            )
        return self.names.index(name)

    def members(self, number: int) -> NDArray[np.int64]:
        """Return the indices of a group's units."""
        return np.flatnonzero(self.index == number)


@dataclass(frozen=True)
class Size:
    """The size of a group.

    Attributes:
        things: Number of samples (or boxes).
        subjects: Number of different people in them.
        units: Number of independent units: the people, and the samples without a person.
    """

    things: int
    subjects: int
    units: int

    @property
    def word(self) -> str:
        """Word for the units."""
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
        samples: The samples.
        boxes: (len(samples),) number of boxes of each.
        attributes: Attributes of samples, subjects and boxes.
        columns: One column, or several for their combinations.

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
    """Raise InputError unless these are known, different columns.

    Raises:
        InputError: If no column is named, one is named twice, or one is unknown.
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
    """Return the size of each group.

    Args:
        groups: Groups of N units.
        samples: (N,) the sample of each unit.
    """
    found = []
    for number in range(len(groups.names)):
        members = [samples[i] for i in groups.members(number)]
        people = {subject for sample in members for subject in sample.subjects}
        alone = len({sample.path for sample in members if not sample.subjects})
        found.append(Size(len(members), len(people), len(people) + alone))
    return found


def large_enough(groups: Groups, found: Sequence[Size], minimum: int = MINIMUM) -> list[int]:
    """Return the numbers of the groups to compare: large enough, and with known values."""
    return [g for g, size in enumerate(found) if g not in groups.apart and size.units >= minimum]


def too_small(size: Size, minimum: int) -> str:
    """Return the sentence that replaces the figure of a small group."""
    return f"no figure: it has fewer than {minimum} {size.word}, too few for a figure that identifies nobody"


def merged(first: Attributes, second: Attributes) -> Attributes:
    """Return both merged; ``second`` takes precedence."""
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
