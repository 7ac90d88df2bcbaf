# SPDX-License-Identifier: Apache-2.0
"""Input checks shared by all attacks and statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.audits.scores import Scores
from expunge.errors import InputError


def numbers(values: ArrayLike, name: str, *, dimensions: int = 1, least: int = 1) -> Scores:
    """Return scores as float64, after checking shape and values.

    Args:
        values: (n,), or (models, n) where ``dimensions`` is 2.
        name: Name of the scores in an error message.
        dimensions: Required number of dimensions.
        least: Minimum size of the first dimension; the others need at least 1.

    Raises:
        InputError: If the shape is wrong, there are too few scores, or a score is not finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != dimensions:
        raise InputError(
            f"The scores of {name} have the wrong shape.",
            f"They have {found.ndim} dimensions; {dimensions} are expected.",
            "Give one score for each sample; with several models, one row for each model.",
        )
    if found.shape[0] < least or found.size == 0:
        raise InputError(
            f"There are too few scores of {name}.",
            f"Their shape is {found.shape}; the first number must be at least {least}, and none 0.",
            "Score more data or more models.",
        )
    if not np.isfinite(found).all():
        raise InputError(
            f"The scores of {name} are not all finite numbers.",
            f"{int((~np.isfinite(found)).sum())} of {found.size} are NaN or infinite.",
            "Check the model and the data: one of them is damaged.",
        )
    return found


def sides(members: ArrayLike, others: ArrayLike) -> tuple[Scores, Scores]:
    """Return the scores (n,) and (m,) of two sides, after checking them.

    Raises:
        InputError: As :func:`numbers`, or if all scores are equal.
    """
    one, two = numbers(members, "the first side"), numbers(others, "the second side")
    varied(np.concatenate([one, two]), "both sides")
    return one, two


def varied(values: Scores, name: str) -> None:
    """Raise InputError if all scores are equal.

    Raises:
        InputError: If they are; constant scores carry no information.
    """
    if values.min() == values.max():
        raise InputError(
            f"The scores of {name} are constant.",
            "A score that is equal for all samples shows nothing about the model.",
            "Check whether the model is damaged, or choose another score.",
        )


def same_columns(arrays: Sequence[Scores], name: str) -> None:
    """Raise InputError if arrays (…, n) differ in their number of samples.

    Raises:
        InputError: If the last dimensions differ.
    """
    lengths = sorted({array.shape[-1] for array in arrays})
    if len(lengths) > 1:
        raise InputError(
            f"The scores of {name} are not those of the same samples.",
            f"There are {' and '.join(str(n) for n in lengths)} of them.",
            "Score the same samples, in the same order, with every model.",
        )


def mask(values: ArrayLike | None, shape: tuple[int, ...], name: str, *, default: bool) -> NDArray[np.bool_]:
    """Return a boolean mask of a given shape; filled with ``default`` if none is given.

    Raises:
        InputError: If its shape differs, or it is not boolean.
    """
    if values is None:
        return np.full(shape, default)
    found = np.asarray(values)
    if found.shape != shape or found.dtype != np.bool_:
        raise InputError(
            f"The mask that says {name} does not fit.",
            f"It must be boolean, of shape {shape}; it is {found.dtype}, of shape {found.shape}.",
            "Give one truth value for each model and sample.",
        )
    return found


def between(value: float, low: float, high: float, name: str) -> float:
    """Return a value, after checking that it lies strictly between ``low`` and ``high``.

    Raises:
        InputError: If it does not.
    """
    if not low < value < high:
        raise InputError(
            f"The {name} is {value:g}.", f"It must lie between {low:g} and {high:g}.", "Correct it."
        )
    return value
