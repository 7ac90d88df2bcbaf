# SPDX-License-Identifier: Apache-2.0
"""What harm is looked for: errors on validation data, of everybody or of a group.

What finds never judges: targets are taken from the validation split alone, so that the test split can tell
whether forgetting what was found helped.
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
    """What was asked for.

    Attributes:
        kind: ``errors``, ``worst-group`` or ``group``.
        value: The group's name, for ``group``.
    """

    kind: str
    value: str | None = None

    @property
    def grouped(self) -> bool:
        """Whether it needs groups."""
        return self.kind != ERRORS


@dataclass(frozen=True)
class Chosen:
    """Validation samples whose loss is to fall.

    Attributes:
        rows: Which of them.
        errors: How many of these the model gets wrong.
        group: The group's name, where there is one.
    """

    rows: NDArray[np.int64]
    errors: int
    group: str | None = None


def parse_target(text: str) -> Target:
    """Return what ``--target`` says: ``errors``, ``worst-group`` or ``group=VALUE``.

    Raises:
        InputError: If it is something else.
    """
    kind, equals, value = text.partition("=")
    if kind == GROUP and value:
        return Target(GROUP, value)
    if kind in (ERRORS, WORST_GROUP) and not equals:
        return Target(kind)
    raise InputError(
        "That is no target.",
        "It says what harm is looked for.",
        "Give --target errors, --target worst-group or --target group=VALUE.",
    )


def check_split(split: str) -> None:
    """Refuse to look for harm on anything but validation data.

    Raises:
        InputError: If it is another split.
    """
    if split != SPLIT:
        raise InputError(
            f"Harm cannot be looked for on the split {split!r}.",
            "What finds never judges: the test split is for judging what forgetting changed, and on the "
            "training split a model makes few errors."
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

    ``errors``: all, also those that the model gets right: they weigh little in the mean, and without them a
    ranking names what pulls at the errors, whatever it does for the rest. ``group``: all of the group, for
    the same reason. ``worst-group``: the group with the largest share of errors among those that are large
    enough.

    Args:
        target: What was asked for.
        mistaken: (n,) whether the model is wrong.
        groups: Of the n samples, where the target needs them.
        sizes: Of the groups.
        minimum: Subjects (samples, where nobody is in them) below which a group is not looked at.

    Raises:
        InputError: If there is no sample or no error to explain, or a group is too small.
    """
    if not len(mistaken):
        raise InputError(
            "There is no validation sample.", "Harm is looked for on the split val.", "Add one to the data."
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
                "The group is too small to look for what harms it.",
                f"It has {sizes[number].units} {sizes[number].word} in the validation split; fewer than "
                f"{minimum} say too little and may tell of people."
                if number not in groups.apart
                else "Its samples are those of which nothing certain is known.",
                "Choose another group, or add validation data.",
            )
    else:
        if not compared:
            raise InputError(
                "No group is large enough to be the worst.",
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
