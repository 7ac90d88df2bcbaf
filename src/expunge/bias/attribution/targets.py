# SPDX-License-Identifier: Apache-2.0
"""Targets of a search for harm: errors on validation data, overall or of a group.

Targets are taken from the validation split alone, so that the test split can judge the effect of forgetting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.bias.groups import Groups, Size, large_enough
from expunge.errors import InputError

ERRORS, WORST_GROUP, GROUP = "errors", "worst-group", "group"
SPLIT = "val"


@dataclass(frozen=True)
class Target:
    """A parsed target.

    Attributes:
        kind: ``errors``, ``worst-group`` or ``group``.
        value: The group's name, for ``group``.
    """

    kind: str
    value: str | None = None

    @property
    def grouped(self) -> bool:
        """Whether the target needs groups."""
        return self.kind != ERRORS


@dataclass(frozen=True)
class Chosen:
    """Validation samples whose loss is to be reduced.

    Attributes:
        rows: Their indices.
        errors: Number of these samples that the model misclassifies.
        group: Name of the group; None: all samples.
    """

    rows: NDArray[np.int64]
    errors: int
    group: str | None = None


def parse_target(text: str) -> Target:
    """Return the target of ``--target``: ``errors``, ``worst-group`` or ``group=VALUE``.

    Raises:
        InputError: If the text is none of these.
    """
    kind, equals, value = text.partition("=")
    if kind == GROUP and value:
        return Target(GROUP, value)
    if kind in (ERRORS, WORST_GROUP) and not equals:
        return Target(kind)
    raise InputError(
        "The target is unknown.",
        "It defines the errors to explain.",
        "Give --target errors, --target worst-group or --target group=VALUE.",
    )


def check_split(split: str) -> None:
    """Raise InputError unless the split is ``val``.

    Raises:
        InputError: If it is another split.
    """
    if split != SPLIT:
        raise InputError(
            f"Harmful data cannot be searched on the split {split!r}.",
            "What finds never judges: the test split is kept for judging the effect of forgetting."
            if split == "test"
            else "Targets are validation samples.",
            "Leave --split out; measure afterwards on the test split.",
        )


def choose(
    target: Target,
    mistaken: NDArray[np.bool_],
    groups: Groups | None = None,
    sizes: list[Size] | None = None,
    minimum: int = 1,
) -> Chosen:
    """Return the samples whose mean loss is the target.

    ``errors``: all samples. Correct ones have a small loss, and without them a ranking would ignore the
    effect on them. ``group``: all samples of the group. ``worst-group``: the group with the largest error
    rate among those that are large enough.

    Args:
        target: The target.
        mistaken: (n,) whether the model misclassifies each sample.
        groups: Groups of the n samples, if the target needs them.
        sizes: Sizes of the groups.
        minimum: Minimum of subjects (samples, if there are no subjects) of a group.

    Raises:
        InputError: If there is no sample or no error to explain, or a group is too small.
    """
    if not len(mistaken):
        raise InputError(
            "There is no validation sample.", "The search uses the split val.", "Add validation data."
        )
    if not target.grouped:
        every, wrong = np.arange(len(mistaken)), int(mistaken.sum())
        return Chosen(_not_empty(every, wrong, f"{len(mistaken)} validation samples"), wrong)
    if groups is None or sizes is None:
        raise InputError("The groups are not named.", "The target is a group.", "Give --group COLUMN.")
    compared = large_enough(groups, sizes, minimum)
    if target.kind == GROUP:
        number = groups.number(target.value or "")
        if number not in compared:
            raise InputError(
                "The group is too small for a search.",
                f"It has {sizes[number].units} {sizes[number].word} in the validation split; fewer than "
                f"{minimum} could identify people."
                if number not in groups.apart
                else "It is the group of missing or mixed values.",
                "Choose another group, or add validation data.",
            )
    else:
        if not compared:
            raise InputError(
                "No group is large enough.",
                f"In the validation split each has fewer than {minimum} subjects or samples.",
                "Add validation data, or use --target errors.",
            )
        number = max(compared, key=lambda g: float(mistaken[groups.members(g)].mean()))
    rows = groups.members(number)
    errors = int(mistaken[rows].sum())
    _not_empty(rows, errors, f"{len(rows)} validation samples of the group")
    return Chosen(rows, errors, groups.names[number])


def _not_empty(rows: NDArray[np.int64], errors: int, among: str) -> NDArray[np.int64]:
    if not errors:
        raise InputError(
            "There is no error to explain.",
            f"The model is right on all of the {among}.",
            "Choose another target, or more validation data.",
        )
    return rows
